//! Passwords: argon2id (RFC 9106), off the async threads, behind a bounded queue.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc;
use argon2::{Argon2, Params, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::clock::Environment;
use crate::domain::operators::{Password, PasswordHash};

/// Cost of a new hash: 19 MiB, 2 passes, 1 lane (OWASP's Password Storage Cheat Sheet, first choice for argon2id).
const COST: Cost = Cost { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
/// Most sign-ins that wait for a hash; further ones are told to come back.
const WAITING: usize = 64;

/// What one hash costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        COST
    }
}

/// Too many passwords are being hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// What comparing a password found.
#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    Mismatch,
    Match,
    /// Right, and hashed anew at today's cost, which is not the stored hash's.
    MatchNeedsRehash(PasswordHash),
}

/// Hashes passwords, few at a time: half of the processors stay free for everything else.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    environment: Environment,
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// What an unknown operator's password is compared with, so that it takes as long.
    nobody: Arc<PasswordHash>,
}

impl Passwords {
    pub fn new(cost: Cost, environment: Environment) -> Self {
        let params =
            Params::new(cost.memory_kib, cost.passes, cost.lanes, None).expect("the cost is within argon2's limits");
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let at_once = std::thread::available_parallelism().map_or(1, NonZero::get) / 2;
        let nobody = shape_of_a_hash(&argon2);
        Self {
            argon2,
            environment,
            running: Arc::new(Semaphore::new(at_once.max(1))),
            waiting: Arc::default(),
            nobody: Arc::new(nobody),
        }
    }

    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Busy> {
        let this = self.clone();
        self.run(move || this.hash_now(&password)).await
    }

    /// Compares with the hash of an operator, or with nobody's, which takes as long and is wrong.
    pub async fn compare(&self, password: Password, stored: Option<PasswordHash>) -> Result<Comparison, Busy> {
        let this = self.clone();
        self.run(move || this.compare_now(&password, stored)).await
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
        let known = stored.is_some();
        let stored = stored.as_ref().unwrap_or(&self.nobody);
        let Ok(parsed) = phc::PasswordHash::new(stored.as_phc()) else {
            tracing::error!("a stored password hash is no PHC string");
            return Comparison::Mismatch;
        };
        let right = self.argon2.verify_password(password.expose().as_bytes(), &parsed).is_ok();
        if !(known && right) {
            return Comparison::Mismatch;
        }
        let same_cost = Params::try_from(&parsed).is_ok_and(|params| {
            let today = self.argon2.params();
            (params.m_cost(), params.t_cost(), params.p_cost()) == (today.m_cost(), today.t_cost(), today.p_cost())
        });
        if same_cost { Comparison::Match } else { Comparison::MatchNeedsRehash(self.hash_now(password)) }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _place = Place::take(&self.waiting)?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Busy)?;
        let work = move || {
            let done = work();
            // Held by the work itself: a caller that hangs up does not let another one in beside it.
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Busy)
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Busy> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < WAITING { Ok(place) } else { Err(Busy) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A hash of today's cost that no password is known for: its salt and output are zeros.
fn shape_of_a_hash(argon2: &Argon2<'_>) -> PasswordHash {
    let params = argon2.params();
    let (salt, output) = ("A".repeat(22), "A".repeat(43));
    PasswordHash::from_phc(format!(
        "$argon2id$v=19$m={},t={},p={}${salt}${output}",
        params.m_cost(),
        params.t_cost(),
        params.p_cost()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn password(text: &str) -> Password {
        Password::presented(text.to_owned())
    }

    fn passwords(cost: Cost) -> Passwords {
        Passwords::new(cost, Environment::system())
    }

    #[tokio::test]
    async fn the_stored_hash_is_argon2id_at_the_stated_cost() {
        let hash = passwords(Cost::default()).hash(password("correct horse")).await.unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_operator_is_right() {
        let passwords = passwords(CHEAP);
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        let compare = |text: &str, hash| passwords.compare(password(text), hash);
        assert_eq!(compare("correct horse", Some(hash.clone())).await, Ok(Comparison::Match));
        assert_eq!(compare("wrong horse", Some(hash)).await, Ok(Comparison::Mismatch));
        assert_eq!(compare("correct horse", None).await, Ok(Comparison::Mismatch));
    }

    #[tokio::test]
    async fn a_right_password_is_hashed_anew_when_the_cost_has_risen() {
        let weak = passwords(CHEAP).hash(password("correct horse")).await.unwrap();
        let dearer = passwords(Cost { passes: 2, ..CHEAP });
        let Ok(Comparison::MatchNeedsRehash(hash)) = dearer.compare(password("correct horse"), Some(weak)).await else {
            panic!("a weak hash was not replaced");
        };
        assert!(hash.as_phc().contains("t=2"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_is_refused_and_does_not_queue_without_end() {
        let passwords = passwords(Cost::default());
        let flood = (0..WAITING * 4).map(|_| passwords.compare(password("guess"), None));
        let answers = futures::future::join_all(flood).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), WAITING);
    }
}
