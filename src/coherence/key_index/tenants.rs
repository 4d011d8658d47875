//! Tenants by number, so that a row spends 4 bytes on its tenant.

use std::collections::HashMap;
use std::sync::{OnceLock, RwLock};

use super::row_table::allocated_block;
use crate::coherence::locks::{read, write};
use crate::domain::ids::TenantId;

/// Numbers of tenants. One that was given out is never forgotten: tenants are few, and the whole table goes with its
/// index.
///
/// Reading a number takes no lock: the n-th block holds 2^n tenants and never moves.
#[derive(Default)]
pub(super) struct Tenants {
    numbers: RwLock<HashMap<TenantId, u32>>,
    blocks: [OnceLock<Box<[OnceLock<TenantId>]>>; 32],
}

impl Tenants {
    /// The tenant's number, a new one if it has none.
    pub(super) fn number(&self, tenant: &TenantId) -> u32 {
        if let Some(number) = read(&self.numbers).get(tenant) {
            return *number;
        }
        let mut numbers = write(&self.numbers);
        let next = u32::try_from(numbers.len()).expect("fewer tenants than 2^32");
        *numbers.entry(tenant.clone()).or_insert_with(|| {
            let (block, place) = place_of(next);
            let block = self.blocks[block].get_or_init(|| (0..1 << block).map(|_| OnceLock::new()).collect());
            block[place].set(tenant.clone()).expect("a number is given once, under the lock");
            next
        })
    }

    /// The tenant of a number that [`number`](Self::number) gave.
    pub(super) fn get(&self, number: u32) -> TenantId {
        let (block, place) = place_of(number);
        let tenant = self.blocks[block].get().and_then(|block| block[place].get());
        tenant.expect("a number is given out after its tenant is in place").clone()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let numbers = read(&self.numbers);
        // A map of hashbrown has 8 buckets for each 7 rows of its capacity, and a byte beside each.
        let map = numbers.capacity() * 8 / 7 * (size_of::<(TenantId, u32)>() + 1);
        let blocks = self.blocks.iter().filter_map(OnceLock::get).map(|block| size_of_val(&**block));
        // An `Arc` has two counts before its text.
        let texts = numbers.keys().map(|tenant| allocated_block(tenant.as_str().len() + 2 * size_of::<usize>()));
        map + blocks.sum::<usize>() + texts.sum::<usize>()
    }
}

/// Block and place of a number: 0 | 1 2 | 3 4 5 6 | …
fn place_of(number: u32) -> (usize, usize) {
    let position = u64::from(number) + 1;
    let block = position.ilog2();
    (block as usize, (position - (1 << block)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_one_number_and_a_number_one_tenant() {
        let tenants = Tenants::default();
        let names: Vec<TenantId> = (0..100).map(|n| format!("tenant-{n}").parse().unwrap()).collect();
        for _ in 0..2 {
            for (number, name) in (0..).zip(&names) {
                assert_eq!((tenants.number(name), tenants.get(number)), (number, name.clone()));
            }
        }
    }

    #[test]
    fn every_number_has_a_place_of_its_own() {
        assert_eq!([0, 1, 2, 3, 6, 7].map(place_of), [(0, 0), (1, 0), (1, 1), (2, 0), (2, 3), (3, 0)]);
        assert_eq!(place_of(u32::MAX - 1), (31, (1 << 31) - 1));
    }
}
