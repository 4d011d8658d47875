//! Keys as a store has them, with names of 20 bytes.

use keymark::domain::ids::{SystemId, TenantId};
use keymark::domain::keys::{Key, KeyDigest, KeyEnd, KeyRole, Mark};
use keymark::domain::system_names::SystemName;
use keymark::domain::time::Timestamp;

pub fn key(n: u64, tenant: &TenantId, revoked_at: Option<Timestamp>) -> Key {
    let mut system = [0; 16];
    system[8..].copy_from_slice(&n.to_be_bytes());
    Key {
        digest: digest(n),
        tenant: tenant.clone(),
        system: SystemId::from_bytes(system),
        system_name: SystemName::parse(&format!("System {n:013}")).expect("a name"),
        external_id: None,
        mark: Mark::try_from(format!("{:04}", n % 10_000)).expect("a mark"),
        revision: 1,
        revoked_at,
        end: revoked_at.map(|_| KeyEnd::Revoked),
        secret: None,
        role: KeyRole::Current,
        expires_at: None,
        suspended_at: None,
        warned_days: None,
    }
}

/// As uniform as a digest, and made anew in no time (SplitMix64).
pub fn digest(n: u64) -> KeyDigest {
    let mut bytes = [0; 32];
    for (lane, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
        let mut z = (n * 4 + lane + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    KeyDigest::from_bytes(bytes)
}
