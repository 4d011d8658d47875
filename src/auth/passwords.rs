//! Password hashing with argon2id (RFC 9106), on blocking threads, behind a bounded queue.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use super::cost::Cost;
use crate::clock::Environment;
use crate::domain::operators::{Password, PasswordHash};

/// Passwords that are being hashed or compared, or wait for that. Further ones are refused.
const MAX_QUEUED: usize = 64;
/// Places beyond [`MAX_QUEUED`] for sign-ins from known devices and networks, and for other work than sign-ins, so that a
/// flood by strangers does not refuse these.
const MAX_QUEUED_RESERVED: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being hashed")]
pub struct Overloaded;

#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    Mismatch,
    Match,
    /// It matches, but the stored hash has another cost. Contains a new hash with the current cost.
    MatchNeedsRehash(PasswordHash),
}

/// Hashes passwords on half of the processors at most, so that other requests are not delayed.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    environment: Environment,
    running: Arc<Semaphore>,
    queued: Arc<AtomicUsize>,
    /// Compared with the passwords of unknown operators, so that these take as long as known ones.
    dummy_hash: Arc<PasswordHash>,
}

impl Passwords {
    pub fn new(cost: Cost, environment: Environment) -> Self {
        let argon2 = cost.argon2();
        let concurrency = std::thread::available_parallelism().map_or(1, NonZero::get) / 2;
        let dummy_hash = dummy_hash(&argon2);
        Self {
            argon2,
            environment,
            running: Arc::new(Semaphore::new(concurrency.max(1))),
            queued: Arc::default(),
            dummy_hash: Arc::new(dummy_hash),
        }
    }

    /// Takes a place in the queue, before any other work for a password: so many attempts at most are under way.
    pub fn queue(&self) -> Result<Place, Overloaded> {
        let mut place = Place { queued: Arc::clone(&self.queued), is_reserved: false };
        let ahead = self.queued.fetch_add(1, Ordering::Relaxed);
        place.is_reserved = ahead >= MAX_QUEUED;
        if ahead < MAX_QUEUED + MAX_QUEUED_RESERVED { Ok(place) } else { Err(Overloaded) }
    }

    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Overloaded> {
        let place = self.queue()?;
        let this = self.clone();
        self.run(&place, move || this.hash_now(&password)).await
    }

    /// Compares a password with the hash of an operator. Without a hash it takes as long, and returns `Mismatch`.
    pub async fn compare(
        &self,
        place: &Place,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Comparison, Overloaded> {
        let this = self.clone();
        self.run(place, move || this.compare_now(&password, stored)).await
    }

    fn hash_now(&self, password: &Password) -> PasswordHash {
        let mut salt = [0; argon2::RECOMMENDED_SALT_LEN];
        self.environment.rng().fill_bytes(&mut salt);
        let hash: phc::PasswordHash = self
            .argon2
            .hash_password_with_salt(password.expose().as_bytes(), &salt)
            .expect("the salt is of argon2's recommended length");
        PasswordHash::from_phc(hash.to_string())
    }

    fn compare_now(&self, password: &Password, stored: Option<PasswordHash>) -> Comparison {
        let is_known = stored.is_some();
        let stored = stored.as_ref().unwrap_or(&self.dummy_hash);
        let Ok(parsed) = phc::PasswordHash::new(stored.as_phc()) else {
            tracing::error!("stored password hash is not a PHC string");
            return Comparison::Mismatch;
        };
        let Ok(stored_cost) = Params::try_from(&parsed).map(|params| Cost::of(&params)) else {
            tracing::error!("stored password hash has no valid cost");
            return Comparison::Mismatch;
        };
        if stored_cost.is_excessive() {
            tracing::error!(cost = %stored_cost, "stored password hash exceeds the maximum cost");
            return Comparison::Mismatch;
        }
        let matches = self.argon2.verify_password(password.expose().as_bytes(), &parsed).is_ok();
        if !(is_known && matches) {
            return Comparison::Mismatch;
        }
        if stored_cost == Cost::of(self.argon2.params()) {
            Comparison::Match
        } else {
            Comparison::MatchNeedsRehash(self.hash_now(password))
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        _place: &Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Overloaded)?;
        let work = move || {
            let done = work();
            // Held by the blocking task: it goes on when the caller is cancelled, and must keep others out.
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Overloaded)
    }
}

/// A place in the queue, until it is dropped.
pub struct Place {
    queued: Arc<AtomicUsize>,
    is_reserved: bool,
}

impl Place {
    /// Refuses a stranger in a reserved place.
    pub fn check_stranger(&self) -> Result<(), Overloaded> {
        if self.is_reserved { Err(Overloaded) } else { Ok(()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A hash with the cost of a new one, for which no password is known: its salt and output are zeros.
fn dummy_hash(argon2: &Argon2<'_>) -> PasswordHash {
    let cost = Cost::of(argon2.params());
    let (salt, output) = ("A".repeat(22), "A".repeat(43));
    PasswordHash::from_phc(format!("$argon2id$v=19${cost}${salt}${output}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn password(text: &str) -> Password {
        Password::unchecked(text.to_owned())
    }

    fn passwords(cost: Cost) -> Passwords {
        Passwords::new(cost, Environment::system())
    }

    #[tokio::test]
    async fn a_new_hash_is_argon2id_at_the_default_cost() {
        let hash = passwords(Cost::default()).hash(password("correct horse")).await.unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    }

    #[tokio::test]
    async fn only_the_correct_password_of_a_known_operator_matches() {
        let passwords = passwords(CHEAP);
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        let place = passwords.queue().unwrap();
        let compare = |text: &str, hash| passwords.compare(&place, password(text), hash);
        assert_eq!(compare("correct horse", Some(hash.clone())).await, Ok(Comparison::Match));
        assert_eq!(compare("wrong horse", Some(hash)).await, Ok(Comparison::Mismatch));
        assert_eq!(compare("correct horse", None).await, Ok(Comparison::Mismatch));
    }

    #[tokio::test]
    async fn a_correct_password_is_rehashed_when_the_cost_has_changed() {
        let weak = passwords(CHEAP).hash(password("correct horse")).await.unwrap();
        let costlier = passwords(Cost { passes: 2, ..CHEAP });
        let place = costlier.queue().unwrap();
        let compared = costlier.compare(&place, password("correct horse"), Some(weak)).await;
        let Ok(Comparison::MatchNeedsRehash(hash)) = compared else {
            panic!("a weak hash was not replaced");
        };
        assert!(hash.as_phc().contains("t=2"));
    }

    #[tokio::test]
    async fn a_stored_hash_beyond_the_maximum_cost_is_refused_without_computing_it() {
        let hash = passwords(CHEAP).hash(password("correct horse")).await.unwrap();
        for (cheap, excessive) in [("m=8", "m=4294967295"), ("t=1", "t=4294967295"), ("p=1", "p=16777215")] {
            let stored = PasswordHash::from_phc(hash.as_phc().replace(cheap, excessive));
            let passwords = passwords(CHEAP);
            let place = passwords.queue().unwrap();
            let compared = passwords.compare(&place, password("correct horse"), Some(stored)).await;
            assert_eq!(compared, Ok(Comparison::Mismatch), "{excessive}");
        }
    }

    #[test]
    fn a_flood_is_refused_beyond_the_queue_and_strangers_before() {
        let passwords = passwords(CHEAP);
        let places: Vec<_> = (0..MAX_QUEUED * 4).filter_map(|_| passwords.queue().ok()).collect();
        assert_eq!(places.len(), MAX_QUEUED + MAX_QUEUED_RESERVED);
        assert_eq!(places.iter().filter(|place| place.check_stranger().is_ok()).count(), MAX_QUEUED);
        drop(places);
        assert!(passwords.queue().is_ok_and(|place| place.check_stranger().is_ok()));
    }
}
