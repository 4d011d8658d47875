//! Property test: the store and the model return the same results for the same calls.

use std::cell::Cell;

use keymark::domain::audit::{AuditAction, AuditActor, AuditFilter, AuditOutcome};
use keymark::domain::changes::{Batch, Change, Row, Write};
use keymark::domain::external_ids::ExternalId;
use keymark::domain::ids::TenantId;
use keymark::domain::keys::Key;
use keymark::domain::operators::Operator;
use keymark::domain::permissions::{Permission, Permissions};
use keymark::domain::refusal::ErrorCode;
use keymark::domain::sessions::Session;
use keymark::domain::system_names::Search;
use keymark::domain::systems::{Direction, System, SystemOrder, SystemOrderField, SystemSortKey};
use keymark::store::{CommitStore, PageEnd, PageRequest, Quota, SessionStore, Store, StoreError};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::Factory;
use super::fixtures::*;
use super::memory::MemoryStore;

const NAMES: [&str; 8] =
    ["Billing", "ＢＩＬＬＩＮＧ", "Straße 1", "STRASSE 1", "a.b$c (a+)+$", "Payments", "payments 2", "日本語"];
const USERNAMES: [&str; 3] = ["ada", "bob", "zoe"];
const EXTERNAL_IDS: [Option<&str>; 4] = [None, Some("cus_1"), Some("CUS_1"), Some("a.b$c")];
const SEARCHES: [&str; 8] = ["", "i", "STRASSE", "$", ".", "ﬁ", "日", "Us_"];
const SETTINGS: [Option<&str>; 3] = [None, Some("one"), Some("two")];
const QUOTA: Quota = Quota { burst: 2, interval: SECOND };

pub async fn store_behaves_like_the_model(factory: &dyn Factory) {
    let store = factory.open().await;
    let config = Config { cases: 64, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..40);
    let cases = Cell::new(0);
    let runtime = tokio::runtime::Handle::current();
    let result = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&steps, |steps| {
            cases.set(cases.get() + 1);
            runtime.block_on(run(&*store, cases.get(), steps))
        })
    });
    if let Err(difference) = result {
        panic!("{difference}");
    }
}

/// A call or batch. An index selects one of the existing items; a step without items to select from does nothing.
#[derive(Clone, Debug)]
enum Step {
    Create { tenant: usize, names: Vec<&'static str> },
    Rename { system: Which, name: &'static str },
    Identify { system: Which, external_id: Option<&'static str> },
    Generate { system: Which },
    Revoke { system: Which },
    Delete { system: Which },
    Add { tenant: usize, username: &'static str },
    Permit { operator: Which, permissions: Permissions },
    Remove { operator: Which },
    SignIn { operator: Which },
    SignOut { session: Index },
    Refuse { tenant: usize, system: Index },
    Wait { seconds: u32 },
    Purge { seconds_ago: u32 },
    Take { bucket: usize },
    Return { bucket: usize },
    Replace { expected: Option<&'static str>, value: &'static str },
    ListSystems { tenant: usize, search: &'static str, order: SystemOrder, stretch: Stretch },
    ListAudit { tenant: usize, filter: Filter, stretch: Stretch },
    ListAuditAfter { tenant: usize, number: u64, limit: usize },
}

/// A row in its current version or the one before.
#[derive(Clone, Debug)]
struct Which {
    index: Index,
    stale: bool,
}

#[derive(Clone, Debug)]
struct Stretch {
    after: Option<Index>,
    before: Option<Index>,
    limit: usize,
    from: PageEnd,
}

#[derive(Clone, Debug)]
struct Filter {
    system: Option<Index>,
    actor: Option<Index>,
    actions: Option<Vec<AuditAction>>,
    outcome: Option<AuditOutcome>,
    key_mark: Option<Index>,
    from: Option<u32>,
    to: Option<u32>,
}

fn step() -> impl Strategy<Value = Step> {
    let tenant = || 0..2usize;
    let name = || select(&NAMES[..]);
    let names = prop::collection::vec(name(), 1..3);
    let permissions = prop::collection::vec(select(&Permission::ALL[..]), 0..4);
    let permissions = permissions.prop_map(|permissions| permissions.into_iter().collect::<Permissions>());
    prop_oneof![
        6 => (tenant(), names).prop_map(|(tenant, names)| Step::Create { tenant, names }),
        3 => (which(), name()).prop_map(|(system, name)| Step::Rename { system, name }),
        3 => (which(), select(&EXTERNAL_IDS[..]))
            .prop_map(|(system, external_id)| Step::Identify { system, external_id }),
        3 => which().prop_map(|system| Step::Generate { system }),
        3 => which().prop_map(|system| Step::Revoke { system }),
        2 => which().prop_map(|system| Step::Delete { system }),
        3 => (tenant(), select(&USERNAMES[..])).prop_map(|(tenant, username)| Step::Add { tenant, username }),
        2 => (which(), permissions).prop_map(|(operator, permissions)| Step::Permit { operator, permissions }),
        1 => which().prop_map(|operator| Step::Remove { operator }),
        3 => which().prop_map(|operator| Step::SignIn { operator }),
        1 => any::<Index>().prop_map(|session| Step::SignOut { session }),
        1 => (tenant(), any::<Index>()).prop_map(|(tenant, system)| Step::Refuse { tenant, system }),
        3 => (0..40u32).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0..60u32).prop_map(|seconds_ago| Step::Purge { seconds_ago }),
        3 => (0..2usize).prop_map(|bucket| Step::Take { bucket }),
        1 => (0..2usize).prop_map(|bucket| Step::Return { bucket }),
        1 => (select(&SETTINGS[..]), select(&["one", "two"][..]))
            .prop_map(|(expected, value)| Step::Replace { expected, value }),
        3 => (tenant(), select(&SEARCHES[..]), order(), stretch())
            .prop_map(|(tenant, search, order, stretch)| Step::ListSystems { tenant, search, order, stretch }),
        3 => (tenant(), filter(), stretch())
            .prop_map(|(tenant, filter, stretch)| Step::ListAudit { tenant, filter, stretch }),
        1 => (tenant(), 0..20u64, 1..9usize)
            .prop_map(|(tenant, number, limit)| Step::ListAuditAfter { tenant, number, limit }),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    (any::<Index>(), prop::bool::weighted(0.2)).prop_map(|(index, stale)| Which { index, stale })
}

fn order() -> impl Strategy<Value = SystemOrder> {
    let field = select(vec![SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt]);
    let direction = select(vec![Direction::Ascending, Direction::Descending]);
    (field, direction).prop_map(|(field, direction)| SystemOrder { field, direction })
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let place = || prop::option::weighted(0.3, any::<Index>());
    (place(), place(), 1..5usize, select(vec![PageEnd::First, PageEnd::Last]))
        .prop_map(|(after, before, limit, from)| Stretch { after, before, limit, from })
}

fn filter() -> impl Strategy<Value = Filter> {
    let actions = vec![
        AuditAction::SystemCreated,
        AuditAction::SystemRenamed,
        AuditAction::KeyGenerated,
        AuditAction::SignedIn,
        AuditAction::PermissionRefused,
    ];
    (
        prop::option::weighted(0.3, any::<Index>()),
        prop::option::weighted(0.3, any::<Index>()),
        prop::option::weighted(0.3, prop::collection::vec(select(actions), 0..3)),
        prop::option::weighted(0.3, select(vec![AuditOutcome::Done, AuditOutcome::Refused])),
        prop::option::weighted(0.2, any::<Index>()),
        prop::option::weighted(0.3, 0..100u32),
        prop::option::weighted(0.3, 0..100u32),
    )
        .prop_map(|(system, actor, actions, outcome, key_mark, from, to)| Filter {
            system,
            actor,
            actions,
            outcome,
            key_mark,
            from,
            to,
        })
}

/// The store, the model, and the rows written to both.
struct World<'a> {
    store: &'a dyn Store,
    model: MemoryStore,
    tenants: [Tenant; 2],
    /// Distinguishes usernames, buckets and settings of this case from those of other cases in the same store.
    case: u32,
    /// Every version of every system, the latest last, including deleted systems.
    systems: Vec<Vec<System>>,
    operators: Vec<Vec<Operator>>,
    keys: Vec<Key>,
    sessions: Vec<Session>,
    expected_changes: usize,
}

async fn run(store: &dyn Store, case: u32, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World {
        store,
        model: MemoryStore::default(),
        tenants: ["a", "b"].map(|name| tenant(&format!("case-{case}-{name}"))),
        case,
        systems: Vec::new(),
        operators: Vec::new(),
        keys: Vec::new(),
        sessions: Vec::new(),
        expected_changes: 0,
    };
    // Rows that earlier cases left would be counted by the purges of this one.
    let far = START.plus(SECOND * 1_000_000);
    store.purge(far, far).await.unwrap();
    let (mut actual, mut expected) = (follow(store, None).await, follow(&world.model, None).await);

    for step in steps {
        world.take(step).await?;
    }
    world.compare_all().await?;
    for expected in expected.take(world.expected_changes).await {
        compare_change(&mut actual, expected).await?;
    }
    Ok(())
}

/// Makes the same call on both. Returns the result if they are equal.
macro_rules! same {
    ($world:expr, $store:ident => $call:expr) => {{
        let expected = {
            let $store: &dyn Store = &$world.model;
            $call.await.expect("the model does not fail")
        };
        let actual = {
            let $store = $world.store;
            $call.await
        };
        match actual {
            Ok(actual) => prop_assert_eq!(&actual, &expected, "{}", stringify!($call)),
            Err(error) => prop_assert!(false, "{}: {}", stringify!($call), error),
        }
        expected
    }};
}

impl World<'_> {
    async fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Create { tenant, names } => self.create(tenant, &names).await?,
            Step::Rename { system, name } => self.rename(&system, name).await?,
            Step::Identify { system, external_id } => {
                let differs = |system: &System| system.external_id.as_ref().map(ExternalId::as_str) != external_id;
                let Some(system) = chosen(&self.systems, &system).filter(differs) else { return Ok(()) };
                let key = self.key_of(&system).await?;
                let (system, batch) = self.tenant_of(&system).identify(&system, external_id);
                let batch = key.iter().fold(batch, |batch, key| batch.replace(Row::Key(key.in_system(&system))));
                if self.commit(batch).await? {
                    self.changed(system);
                }
            }
            Step::Generate { system } => {
                let Some(system) = chosen(&self.systems, &system).filter(|system| system.key.is_none()) else {
                    return Ok(());
                };
                let (system, key, batch) = self.tenant_of(&system).generate(&system);
                if self.commit(batch).await? {
                    self.keys.push(key);
                    self.changed(system);
                }
            }
            Step::Revoke { system } => {
                let Some(system) = chosen(&self.systems, &system) else { return Ok(()) };
                let Some(key) = self.key_of(&system).await? else { return Ok(()) };
                let (system, _, batch) = self.tenant_of(&system).revoke(&system, &key);
                if self.commit(batch).await? {
                    self.changed(system);
                }
            }
            Step::Delete { system } => {
                let Some(system) = chosen(&self.systems, &system) else { return Ok(()) };
                let batch = match self.key_of(&system).await? {
                    Some(key) => self.tenant_of(&system).delete_with_key(&system, &key).1,
                    None => self.tenant_of(&system).delete(&system),
                };
                self.commit(batch).await?;
            }
            Step::Add { tenant, username } => {
                let operator = self.tenants[tenant].operator(&format!("{username}-{}", self.case));
                let batch = self.tenants[tenant].add(&operator);
                if self.commit(batch).await? {
                    self.operators.push(vec![operator]);
                }
            }
            Step::Permit { operator, permissions } => {
                let operator = chosen(&self.operators, &operator);
                let Some(operator) = operator.filter(|operator| operator.permissions != permissions) else {
                    return Ok(());
                };
                let (changed, batch) = self.tenant_named(&operator.tenant).permit(&operator, permissions);
                if self.commit(batch).await? {
                    let versions = self.operators.iter_mut().find(|versions| versions[0].id == changed.id);
                    versions.expect("the operator was added").push(changed);
                }
            }
            Step::Remove { operator } => {
                let Some(operator) = chosen(&self.operators, &operator) else { return Ok(()) };
                let sessions = self.model.list_sessions(operator.id).await.expect("the model does not fail");
                let batch = self.tenant_named(&operator.tenant).remove(&operator, &sessions);
                self.commit(batch).await?;
            }
            Step::SignIn { operator } => {
                let Some(operator) = chosen(&self.operators, &operator) else { return Ok(()) };
                let tenant = self.tenant_named(&operator.tenant);
                let session = tenant.session(&operator);
                let mut batch = tenant.sign_in(&session).requires(&Row::Operator(operator.clone()));
                batch.event.actor = AuditActor::operator(&operator);
                if self.commit(batch).await? {
                    self.sessions.push(session);
                }
            }
            Step::SignOut { session } => {
                let Some(session) = get(&self.sessions, &session).cloned() else { return Ok(()) };
                let batch = self.tenant_named(&session.tenant).sign_out(&session);
                self.commit(batch).await?;
            }
            Step::Refuse { tenant, system } => {
                let tenant = &mut self.tenants[tenant];
                let mut event = tenant.event(AuditAction::PermissionRefused).refused(ErrorCode::Forbidden, 2);
                event.system = get(&self.systems, &system).map(|versions| versions[0].id);
                let batch = Batch::new(tenant.id.clone(), event);
                self.commit(batch).await?;
            }
            Step::Wait { seconds } => {
                for tenant in &mut self.tenants {
                    tenant.now = tenant.now.plus(SECOND * seconds);
                }
            }
            Step::Purge { seconds_ago } => {
                let now = self.tenants[0].now;
                let purged = same!(self, store => store.purge(now, now.minus(SECOND * seconds_ago)));
                self.expected_changes += usize::from(purged != Default::default());
            }
            Step::Take { bucket } => {
                let (bucket, now) = (format!("{}/{bucket}", self.case), self.tenants[0].now);
                // Either result is fine, if it is the same.
                let _ = same!(self, store => store.take_token(&bucket, QUOTA, now));
            }
            Step::Return { bucket } => {
                let bucket = format!("{}/{bucket}", self.case);
                same!(self, store => store.return_token(&bucket, QUOTA));
            }
            Step::Replace { expected, value } => {
                let name = format!("setting {}", self.case);
                same!(self, store => store.replace_setting(&name, expected, value));
                same!(self, store => store.find_setting(&name));
            }
            Step::ListSystems { tenant, search, order, stretch } => {
                let (tenant, search) = (&self.tenants[tenant].id, Search::parse(search));
                let page = stretch.of(|index| self.place(order, index));
                same!(self, store => store.list_systems(tenant, &search, order, &page));
                same!(self, store => store.count_systems(tenant, &search));
            }
            Step::ListAudit { tenant, filter, stretch } => {
                let (tenant, filter) = (&self.tenants[tenant].id, self.audit_filter(filter));
                let page = stretch.of(|index| Some(index.index(20) as u64));
                same!(self, store => store.list_audit(tenant, &filter, &page));
                same!(self, store => store.count_audit(tenant, &filter));
            }
            Step::ListAuditAfter { tenant, number, limit } => {
                let tenant = &self.tenants[tenant].id;
                same!(self, store => store.list_audit_after(tenant, number, limit));
            }
        }
        Ok(())
    }

    /// Creates systems with all these names in one batch.
    async fn create(&mut self, tenant: usize, names: &[&str]) -> Result<(), TestCaseError> {
        let tenant = &mut self.tenants[tenant];
        let systems: Vec<_> = names.iter().map(|name| tenant.system(name)).collect();
        let batch = tenant.create(&systems[0]);
        let batch = systems[1..].iter().fold(batch, |batch, system| batch.insert(Row::System(system.clone())));
        if self.commit(batch).await? {
            self.systems.extend(systems.into_iter().map(|system| vec![system]));
        }
        Ok(())
    }

    async fn rename(&mut self, system: &Which, name: &str) -> Result<(), TestCaseError> {
        let Some(system) = chosen(&self.systems, system).filter(|system| system.name.as_str() != name) else {
            return Ok(());
        };
        let (renamed, batch) = match self.key_of(&system).await? {
            Some(key) => {
                let (renamed, _, batch) = self.tenant_of(&system).rename_with_key(&system, &key, name);
                (renamed, batch)
            }
            None => self.tenant_of(&system).rename(&system, name),
        };
        if self.commit(batch).await? {
            self.changed(renamed);
        }
        Ok(())
    }

    /// Commits to both. Returns whether both accepted the batch.
    async fn commit(&mut self, batch: Batch) -> Result<bool, TestCaseError> {
        let broken = self.model.broken_conditions(&batch);
        let expected = self.model.commit(batch.clone()).await;
        match (self.store.commit(batch.clone()).await, expected) {
            (Ok(actual), Ok(expected)) => {
                prop_assert_eq!(actual, expected);
                self.expected_changes += 1;
                Ok(true)
            }
            (Err(StoreError::Conflict(conflict)), Err(_)) => {
                prop_assert!(broken.contains(&conflict), "{conflict:?} instead of {broken:?} for {batch:?}");
                Ok(false)
            }
            (actual, expected) => {
                prop_assert!(false, "{actual:?} instead of {expected:?} for {batch:?}");
                Ok(false)
            }
        }
    }

    async fn compare_all(&mut self) -> Result<(), TestCaseError> {
        for tenant in &self.tenants {
            let tenant = &tenant.id;
            same!(self, store => store.list_systems(tenant, &Search::All, SystemOrder::default(), &whole()));
            same!(self, store => store.list_operators(Some(tenant)));
            same!(self, store => store.audit_head(tenant));
            for external_id in EXTERNAL_IDS.into_iter().flatten().map(external_id) {
                same!(self, store => store.find_system_by_external_id(tenant, &external_id));
            }
            let page = same!(self, store => store.list_audit(tenant, &AuditFilter::default(), &whole()));
            for entry in page.items {
                same!(self, store => store.find_audit_entry(tenant, entry.event.id));
            }
        }
        for system in self.systems.iter().map(|versions| &versions[0]) {
            same!(self, store => store.find_system(&system.tenant, system.id));
        }
        for key in &self.keys {
            same!(self, store => store.find_key(&[key.digest]));
        }
        for operator in self.operators.iter().map(|versions| &versions[0]) {
            same!(self, store => store.find_operator(operator.id));
            same!(self, store => store.find_operator_by_username(&operator.username));
            prop_assert_eq!(
                super::operators::sessions(self.store, operator).await,
                super::operators::sessions(&self.model, operator).await
            );
        }
        for session in &self.sessions {
            same!(self, store => store.find_session(session.id));
        }
        Ok(())
    }

    /// Returns the row of the key that the system has in this version, unless it was purged.
    async fn key_of(&self, system: &System) -> Result<Option<Key>, TestCaseError> {
        match &system.key {
            Some(key) => Ok(same!(self, store => store.find_key(&[key.digest]))),
            None => Ok(None),
        }
    }

    fn changed(&mut self, system: System) {
        let versions = self.systems.iter_mut().find(|versions| versions[0].id == system.id);
        versions.expect("the system was created").push(system);
    }

    fn tenant_of(&mut self, system: &System) -> &mut Tenant {
        self.tenant_named(&system.tenant)
    }

    fn tenant_named(&mut self, id: &TenantId) -> &mut Tenant {
        self.tenants.iter_mut().find(|tenant| tenant.id == *id).expect("a tenant of this case")
    }

    fn place(&self, order: SystemOrder, index: &Index) -> Option<SystemSortKey> {
        let versions = get(&self.systems, index)?;
        Some(order.field.key_of(&versions[versions.len() - 1]))
    }

    fn audit_filter(&self, filter: Filter) -> AuditFilter {
        let second = |seconds: Option<u32>| seconds.map(|seconds| START.plus(SECOND * seconds));
        AuditFilter {
            system: filter.system.and_then(|index| get(&self.systems, &index).map(|versions| versions[0].id)),
            actor: filter.actor.and_then(|index| get(&self.operators, &index).map(|versions| versions[0].id.into())),
            actions: filter.actions,
            outcome: filter.outcome,
            key_mark: filter
                .key_mark
                .and_then(|index| get(&self.systems, &index)?.last()?.key.as_ref().map(|k| k.mark)),
            from: second(filter.from),
            to: second(filter.to),
        }
    }
}

impl Stretch {
    fn of<K>(&self, place: impl Fn(&Index) -> Option<K>) -> PageRequest<K> {
        PageRequest {
            after: self.after.as_ref().and_then(&place),
            before: self.before.as_ref().and_then(&place),
            limit: self.limit,
            from: self.from,
        }
    }
}

fn get<'a, T>(items: &'a [T], index: &Index) -> Option<&'a T> {
    (!items.is_empty()).then(|| index.get(items))
}

fn chosen<T: Clone>(rows: &[Vec<T>], which: &Which) -> Option<T> {
    let versions = get(rows, &which.index)?;
    let latest = versions.len() - 1;
    versions.get(latest.saturating_sub(usize::from(which.stale))).cloned()
}

/// Checks that the feed reports this change next: a batch as one change, a purge as any number of changes. Deletions of
/// missing rows may be left out.
async fn compare_change(feed: &mut Follower, expected: Change) -> Result<(), TestCaseError> {
    let mut actual = feed.next().await;
    prop_assert_eq!(&actual.entry, &expected.entry);
    while expected.entry.is_none() && actual.writes.len() < expected.writes.len() {
        let more = feed.next().await;
        prop_assert_eq!(more.entry, None);
        actual.writes.extend(more.writes);
    }
    let needless = |write: &Write| matches!(write, Write::Delete(_)) && !expected.writes.contains(write);
    actual.writes.retain(|write| !needless(write));
    prop_assert_eq!(sorted(&actual.writes), sorted(&expected.writes));
    Ok(())
}
