//! The cached operators, sessions, tokens and rows of all tenants.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use super::locks::{read, write};
use crate::domain::ids::{OperatorId, TenantId, TokenId};
use crate::domain::keys::KeyDigest;
use crate::domain::operators::{Operator, Username};
use crate::domain::sessions::{Session, SessionId};
use crate::domain::tenants::Tenant;
use crate::domain::tokens::Token;

/// Operators, sessions, tokens and tenants by id, and operators by tenant.
///
/// Rows may be put in any order and more than once: the greatest revision wins, and sessions never change. A removal
/// leaves no trace, so an older row that is put afterwards would bring back a session that has ended. Therefore all rows
/// of a scan must be put before any change that the feed delivers after the scan began.
#[derive(Default)]
pub struct Identities {
    operators: RwLock<Operators>,
    sessions: RwLock<HashMap<SessionId, Arc<Session>>>,
    tokens: RwLock<Tokens>,
    tenants: RwLock<BTreeMap<TenantId, Arc<Tenant>>>,
}

#[derive(Default)]
struct Operators {
    by_id: HashMap<OperatorId, Arc<Operator>>,
    by_tenant: ByTenant<Username, Operator>,
}

/// Rows of each tenant, in the order of lists.
type ByTenant<K, V> = HashMap<TenantId, BTreeMap<K, Arc<V>>>;

fn rows_of<K, V>(rows: &ByTenant<K, V>, tenant: &TenantId) -> Vec<Arc<V>> {
    rows.get(tenant).into_iter().flat_map(BTreeMap::values).cloned().collect()
}

fn remove_of<K: Ord, V>(rows: &mut ByTenant<K, V>, tenant: &TenantId, key: &K) {
    if let Some(of_tenant) = rows.get_mut(tenant) {
        of_tenant.remove(key);
        if of_tenant.is_empty() {
            rows.remove(tenant);
        }
    }
}

impl Operators {
    fn insert(&mut self, operator: &Operator) {
        self.remove(operator.id);
        let operator = Arc::new(operator.clone());
        let of_tenant = self.by_tenant.entry(operator.tenant.clone()).or_default();
        of_tenant.insert(operator.username.clone(), Arc::clone(&operator));
        self.by_id.insert(operator.id, operator);
    }

    fn remove(&mut self, id: OperatorId) {
        if let Some(operator) = self.by_id.remove(&id) {
            remove_of(&mut self.by_tenant, &operator.tenant, &operator.username);
        }
    }
}

#[derive(Default)]
struct Tokens {
    by_id: HashMap<TokenId, Arc<Token>>,
    by_digest: HashMap<KeyDigest, Arc<Token>>,
    /// Ids sort by the time of creation.
    by_tenant: ByTenant<TokenId, Token>,
}

impl Tokens {
    fn insert(&mut self, token: &Token) {
        self.remove(token.id);
        let token = Arc::new(token.clone());
        self.by_digest.extend(token.digests().map(|digest| (digest, Arc::clone(&token))));
        self.by_tenant.entry(token.tenant.clone()).or_default().insert(token.id, Arc::clone(&token));
        self.by_id.insert(token.id, token);
    }

    fn remove(&mut self, id: TokenId) {
        if let Some(token) = self.by_id.remove(&id) {
            for digest in token.digests() {
                self.by_digest.remove(&digest);
            }
            remove_of(&mut self.by_tenant, &token.tenant, &id);
        }
    }
}

impl Identities {
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores the operator unless a newer revision is cached.
    pub fn put_operator(&self, operator: &Operator) {
        let mut operators = write(&self.operators);
        if operators.by_id.get(&operator.id).is_none_or(|cached| operator.revision > cached.revision) {
            operators.insert(operator);
        }
    }

    /// Stores the operator whatever revision is cached.
    pub fn overwrite_operator(&self, operator: &Operator) {
        write(&self.operators).insert(operator);
    }

    /// Leaves the sessions, of which none is valid any more: they are purged later.
    pub fn remove_operator(&self, id: OperatorId) {
        write(&self.operators).remove(id);
    }

    pub fn put_session(&self, session: &Session) {
        write(&self.sessions).insert(session.id, Arc::new(session.clone()));
    }

    pub fn remove_session(&self, id: SessionId) {
        write(&self.sessions).remove(&id);
    }

    /// Stores the token unless a newer revision is cached.
    pub fn put_token(&self, token: &Token) {
        let mut tokens = write(&self.tokens);
        if tokens.by_id.get(&token.id).is_none_or(|cached| token.revision > cached.revision) {
            tokens.insert(token);
        }
    }

    /// Stores the token whatever revision is cached.
    pub fn overwrite_token(&self, token: &Token) {
        write(&self.tokens).insert(token);
    }

    pub fn remove_token(&self, id: TokenId) {
        write(&self.tokens).remove(id);
    }

    /// Stores the tenant unless a newer revision is cached. Returns the one that is cached now.
    pub fn put_tenant(&self, tenant: &Tenant) -> Arc<Tenant> {
        let mut tenants = write(&self.tenants);
        match tenants.get(&tenant.id) {
            Some(cached) if cached.revision >= tenant.revision => Arc::clone(cached),
            _ => {
                let tenant = Arc::new(tenant.clone());
                tenants.insert(tenant.id.clone(), Arc::clone(&tenant));
                tenant
            }
        }
    }

    /// Stores the tenant whatever revision is cached.
    pub fn overwrite_tenant(&self, tenant: &Tenant) {
        write(&self.tenants).insert(tenant.id.clone(), Arc::new(tenant.clone()));
    }

    pub fn remove_tenant(&self, id: &TenantId) {
        write(&self.tenants).remove(id);
    }

    pub fn find_operator(&self, id: OperatorId) -> Option<Arc<Operator>> {
        read(&self.operators).by_id.get(&id).cloned()
    }

    /// The operators who belong to the tenant, ordered by username.
    pub fn operators_of(&self, tenant: &TenantId) -> Vec<Arc<Operator>> {
        rows_of(&read(&self.operators).by_tenant, tenant)
    }

    /// Returns the session even if it has ended: see [`Session::is_valid_for`].
    pub fn find_session(&self, id: &SessionId) -> Option<Arc<Session>> {
        read(&self.sessions).get(id).cloned()
    }

    /// Returns the token with one of these digests, even if it has expired (see [`Token::is_valid`]), and that digest.
    pub fn find_token(&self, digests: &[KeyDigest]) -> Option<(Arc<Token>, KeyDigest)> {
        let tokens = read(&self.tokens);
        digests.iter().find_map(|digest| Some((Arc::clone(tokens.by_digest.get(digest)?), *digest)))
    }

    /// The tokens of the tenant, in the order of their creation.
    pub fn tokens_of(&self, tenant: &TenantId) -> Vec<Arc<Token>> {
        rows_of(&read(&self.tokens).by_tenant, tenant)
    }

    /// Returns `None` for a tenant without a row.
    pub fn find_tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        read(&self.tenants).get(id).cloned()
    }

    /// All tenants that have a row, ordered by id.
    pub fn all_tenants(&self) -> Vec<Arc<Tenant>> {
        read(&self.tenants).values().cloned().collect()
    }

    pub fn operators(&self) -> usize {
        read(&self.operators).by_id.len()
    }

    /// Number of sessions, including those that have ended but are not purged yet.
    pub fn sessions(&self) -> usize {
        read(&self.sessions).len()
    }

    /// Numbers of service tokens and of verifier tokens, including expired ones.
    pub fn tokens(&self) -> (usize, usize) {
        let tokens = read(&self.tokens);
        let service = tokens.by_id.values().filter(|token| token.kind.is_service()).count();
        (service, tokens.by_id.len() - service)
    }

    /// Numbers of tenants that are active and that are suspended.
    pub fn tenants(&self) -> (usize, usize) {
        let tenants = read(&self.tenants);
        let suspended = tenants.values().filter(|tenant| tenant.suspended.is_some()).count();
        (tenants.len() - suspended, suspended)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::operators::PasswordHash;
    use crate::domain::permissions::Permissions;
    use crate::domain::sessions::SessionSecret;
    use crate::domain::time::Timestamp;

    const NOON: Timestamp = Timestamp::from_millis(43_200_000);

    fn operator() -> Operator {
        let id = OperatorId::new(NOON, &mut StdRng::seed_from_u64(1));
        let hash = PasswordHash::from_phc(String::new());
        Operator::new(id, "acme".parse().unwrap(), "ada".parse().unwrap(), hash, Permissions::default(), NOON)
    }

    fn session_of(operator: &Operator) -> Session {
        Session {
            id: SessionSecret::generate(&mut StdRng::seed_from_u64(2)).id(),
            tenant: operator.tenant.clone(),
            operator: operator.id,
            password_version: operator.password_version,
            created_at: NOON,
            expires_at: NOON,
            network: None,
            user_agent: None,
        }
    }

    #[test]
    fn older_revision_does_not_replace_a_newer_one() {
        let (identities, first) = (Identities::new(), operator());
        let second = first.with_password(PasswordHash::from_phc(String::new()), NOON);
        identities.put_operator(&second);
        identities.put_operator(&first);
        assert_eq!(identities.find_operator(first.id).as_deref(), Some(&second));
        assert_eq!(identities.operators(), 1);
        identities.remove_operator(first.id);
        assert_eq!((identities.find_operator(first.id), identities.operators()), (None, 0));
    }

    #[test]
    fn session_is_found_until_it_is_removed() {
        let (identities, session) = (Identities::new(), session_of(&operator()));
        identities.put_session(&session);
        identities.put_session(&session);
        assert_eq!((identities.find_session(&session.id).as_deref(), identities.sessions()), (Some(&session), 1));
        identities.remove_session(session.id);
        assert_eq!((identities.find_session(&session.id), identities.sessions()), (None, 0));
    }
}
