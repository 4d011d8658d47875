//! Tenants by number, so that a row of the index takes 4 bytes for its tenant.

use std::collections::HashMap;
use std::sync::RwLock;

use super::row_table::allocated_block;
use crate::coherence::locks::{read, write};
use crate::domain::ids::TenantId;

/// Numbers of tenants, assigned from 0 on. A number is never released: tenants are few, and the table is dropped with
/// its index. Looking up the tenant of a number takes no lock.
#[derive(Default)]
pub(super) struct Tenants {
    numbers: RwLock<HashMap<TenantId, u32>>,
    tenants: boxcar::Vec<TenantId>,
}

impl Tenants {
    /// The tenant's number; assigns one if it has none.
    pub(super) fn number(&self, tenant: &TenantId) -> u32 {
        if let Some(number) = read(&self.numbers).get(tenant) {
            return *number;
        }
        let mut numbers = write(&self.numbers);
        *numbers.entry(tenant.clone()).or_insert_with(|| {
            let number = self.tenants.push(tenant.clone());
            u32::try_from(number).expect("fewer than 2^32 tenants")
        })
    }

    /// The tenant of a number that [`number`](Self::number) returned.
    pub(super) fn get(&self, number: u32) -> TenantId {
        self.tenants.get(number as usize).expect("a number is returned after its tenant was pushed").clone()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let numbers = read(&self.numbers);
        // hashbrown has 8 buckets for 7 entries of its capacity, and a control byte for each bucket.
        let map = numbers.capacity() * 8 / 7 * (size_of::<(TenantId, u32)>() + 1);
        // boxcar doubles its capacity, and has a flag beside each tenant.
        let tenants = self.tenants.count().next_power_of_two() * size_of::<(TenantId, bool)>();
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
        for _ in 0..2 {
            for (number, name) in (0..).zip(&names) {
                assert_eq!((tenants.number(name), tenants.get(number)), (number, name.clone()));
            }
        }
    }
}
