//! Tenants by number, so that a row of the index takes 4 bytes for its tenant.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicI64, Ordering};

use super::row_table::allocated_block;
use crate::coherence::locks::{read, write};
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;

/// Numbers of tenants, assigned from 0 on. A number is never released: tenants are few, and the table is dropped with
/// its index. Looking up the tenant of a number takes no lock.
#[derive(Default)]
pub(super) struct Tenants {
    numbers: RwLock<HashMap<TenantId, u32>>,
    tenants: boxcar::Vec<NumberedTenant>,
}

struct NumberedTenant {
    id: TenantId,
    /// Since when it is suspended, in milliseconds since the Unix epoch; [`NOT_SUSPENDED`].
    suspended_at: AtomicI64,
}

const NOT_SUSPENDED: i64 = i64::MIN;

impl Tenants {
    /// The tenant's number; assigns one if it has none.
    pub(super) fn number(&self, tenant: &TenantId) -> u32 {
        if let Some(number) = read(&self.numbers).get(tenant) {
            return *number;
        }
        let mut numbers = write(&self.numbers);
        *numbers.entry(tenant.clone()).or_insert_with(|| {
            let suspended_at = AtomicI64::new(NOT_SUSPENDED);
            let number = self.tenants.push(NumberedTenant { id: tenant.clone(), suspended_at });
            u32::try_from(number).expect("fewer than 2^32 tenants")
        })
    }

    /// The tenant of a number that [`number`](Self::number) returned.
    pub(super) fn get(&self, number: u32) -> TenantId {
        self.numbered(number).id.clone()
    }

    /// Sets since when the tenant is suspended. Assigns a number only to one that is.
    pub(super) fn suspend(&self, tenant: &TenantId, at: Option<Timestamp>) {
        let known = read(&self.numbers).get(tenant).copied();
        if let Some(number) = known.or_else(|| at.map(|_| self.number(tenant))) {
            let at = at.map_or(NOT_SUSPENDED, Timestamp::as_millis);
            self.numbered(number).suspended_at.store(at, Ordering::Release);
        }
    }

    /// Since when the tenant of a number is suspended.
    pub(super) fn suspended_at(&self, number: u32) -> Option<Timestamp> {
        let at = self.numbered(number).suspended_at.load(Ordering::Acquire);
        (at != NOT_SUSPENDED).then(|| Timestamp::from_millis(at))
    }

    fn numbered(&self, number: u32) -> &NumberedTenant {
        self.tenants.get(number as usize).expect("a number is returned after its tenant was pushed")
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let numbers = read(&self.numbers);
        // hashbrown has 8 buckets for 7 entries of its capacity, and a control byte for each bucket.
        let map = numbers.capacity() * 8 / 7 * (size_of::<(TenantId, u32)>() + 1);
        // boxcar doubles its capacity, and has a flag beside each tenant.
        let tenants = self.tenants.count().next_power_of_two() * size_of::<(NumberedTenant, bool)>();
        // An `Arc` stores two counts with its text.
        let texts = numbers.keys().map(|tenant| allocated_block(tenant.as_str().len() + 2 * size_of::<usize>()));
        map + tenants + texts.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_one_number_and_each_number_one_tenant() {
        let tenants = Tenants::default();
        let names: Vec<TenantId> = (0..100).map(|n| format!("tenant-{n}").parse().unwrap()).collect();
        let at = Timestamp::from_millis(7);
        tenants.suspend(&names[3], None);
        tenants.suspend(&names[0], Some(at));
        for _ in 0..2 {
            for (number, name) in (0..).zip(&names) {
                assert_eq!((tenants.number(name), tenants.get(number)), (number, name.clone()));
                assert_eq!(tenants.suspended_at(number), (number == 0).then_some(at));
            }
        }
        tenants.suspend(&names[0], None);
        assert_eq!(tenants.suspended_at(0), None);
    }
}
