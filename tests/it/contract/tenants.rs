//! Tenants: the data of one tenant does not exist for another.

use keymark::domain::audit::{AuditAction, AuditFilter, AuditHead};
use keymark::domain::changes::Row;
use keymark::domain::keys::Key;
use keymark::domain::operators::Operator;
use keymark::domain::permissions::Permissions;
use keymark::domain::sessions::Session;
use keymark::domain::system_names::Search;
use keymark::domain::systems::{SystemOrder, SystemOrderField};
use keymark::domain::tenants::Tenant as TenantRow;
use keymark::domain::texts::Reason;
use keymark::store::{Conflict, PageEnd, PageRequest, Store};

use super::Factory;
use super::audit::assert_chained;
use super::fixtures::*;
use super::keys::with_key;
use super::operators::{added, sessions, signed_in};
use super::systems::created;

pub async fn tenant_cannot_read_data_of_another(factory: &dyn Factory) {
    let store = factory.open().await;
    // One id is a prefix of the other: concatenated keys would mix them up.
    let (mut acme, mut acme2) = (tenant("acme"), tenant("acme2"));
    let (billing, _) = with_key(&*store, &mut acme, "Billing").await;
    let ada = added(&*store, &mut acme, "ada").await;
    let entry = log(&*store, &acme.id).await.remove(0);
    let by_name = SystemOrder::default();
    let of_billing = AuditFilter { system: Some(billing.id), ..AuditFilter::default() };

    // First for a tenant without data, then with a system, an operator and a log.
    for own in 0..2 {
        let theirs = &acme2.id;
        assert_eq!(store.find_system(theirs, billing.id).await.unwrap(), None);
        assert_eq!(store.find_systems(theirs, &[billing.id]).await.unwrap(), []);
        assert_eq!(systems(&*store, theirs).await.len(), own);
        for search in [Search::parse("billing"), Search::parse("i")] {
            let page = store.list_systems(theirs, &search, by_name, &whole()).await.unwrap();
            assert!(page.items.iter().all(|system| system.tenant == *theirs));
            assert_eq!((page.items.len(), page.has_more), (own, false));
            assert_eq!(store.count_systems(theirs, &search).await.unwrap(), own as u64);
        }
        let counts = store.count_systems_by_tenant().await.unwrap();
        assert_eq!(counts.get(theirs).copied().unwrap_or(0), own as u64);
        for from in [PageEnd::First, PageEnd::Last] {
            let places = [(Some(SystemOrderField::Name.key_of(&billing)), None), (None, None)];
            for (after, before) in places {
                let request = PageRequest { after, before, limit: 1, from };
                let page = store.list_systems(theirs, &Search::All, by_name, &request).await.unwrap();
                assert!(page.items.iter().all(|system| system.tenant == *theirs) && !page.has_more);
            }
        }
        assert_eq!(store.list_operators(Some(theirs)).await.unwrap().len(), own);
        assert_eq!(store.find_audit_entry(theirs, entry.event.id).await.unwrap(), None);
        assert_eq!(store.list_audit(theirs, &of_billing, &whole()).await.unwrap().items, []);
        assert_eq!(store.count_audit(theirs, &of_billing).await.unwrap(), 0);
        let entries = log(&*store, theirs).await;
        assert_eq!(entries.len(), 2 * own);
        assert_chained(&entries);
        assert_eq!(store.count_audit(theirs, &AuditFilter::default()).await.unwrap(), 2 * own as u64);
        assert_eq!(store.list_audit_after(theirs, 0, 9).await.unwrap(), entries);
        let head = entries.last().map(|entry| entry.head()).unwrap_or_default();
        assert_eq!(store.audit_head(theirs).await.unwrap(), head);

        if own == 0 {
            assert_eq!(head, AuditHead::default());
            created(&*store, &mut acme2, "Billing").await;
            added(&*store, &mut acme2, "bob").await;
        }
    }
    assert_eq!(systems(&*store, &acme.id).await, [billing]);
    assert_eq!(store.list_operators(Some(&acme.id)).await.unwrap(), [ada]);
    assert_eq!(log(&*store, &acme.id).await.len(), 3);
}

pub async fn tenant_cannot_change_data_of_another(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let (billing, key) = with_key(&*store, &mut acme, "Billing").await;
    let ada = added(&*store, &mut acme, "ada").await;
    let session = signed_in(&*store, &mut acme, &ada).await;
    let rows = [
        Row::System(billing.clone()),
        Row::Key(key.clone()),
        Row::Operator(ada.clone()),
        Row::Session(session.clone()),
    ];

    let mut follower = follow(&*store, None).await;
    for row in &rows {
        let delete = bolt.note(AuditAction::SystemDeleted).delete(row);
        assert_eq!(refused(&*store, delete).await, Conflict::Row, "deleting {row:?}");
        let require = bolt.note(AuditAction::SignedIn).requires(row);
        assert_eq!(refused(&*store, require).await, Conflict::Row, "requiring {row:?}");
        let forget = bolt.note(AuditAction::SignedOut).delete_if_present(row.id());
        commit(&*store, forget).await;
        assert_eq!(find_row(&*store, &acme.id, row.id()).await.as_ref(), Some(row), "deleting if present");
        assert_eq!(follower.next().await.writes, [], "the feed reports no deletion");
    }
    let (mut renamed, renamed_key, batch) = acme.rename_with_key(&billing, &key, "Taken over");
    renamed.tenant = bolt.id.clone();
    let (permitted, _) = acme.permit(&ada, Permissions::NONE);
    for row in [Row::System(renamed), Row::Key(renamed_key), Row::Operator(permitted)] {
        let replace = bolt.note(AuditAction::SystemRenamed).replace(row);
        assert_eq!(refused(&*store, replace).await, Conflict::Row);
    }
    let stolen_key = Key { tenant: bolt.id.clone(), ..key };
    let stolen_session = Session { tenant: bolt.id.clone(), ..session.clone() };
    let stolen_operator = Operator { tenant: bolt.id.clone(), username: username_of("eve"), ..ada.clone() };
    for row in [Row::Key(stolen_key), Row::Session(stolen_session), Row::Operator(stolen_operator)] {
        let insert = bolt.note(AuditAction::SignedIn).insert(row);
        assert_eq!(refused(&*store, insert).await, Conflict::Row, "an id in use is not absent");
    }

    for row in &rows {
        assert_eq!(find_row(&*store, &acme.id, row.id()).await.as_ref(), Some(row));
    }
    assert_eq!(sessions(&*store, &ada).await, [session]);
    assert_eq!(systems(&*store, &bolt.id).await, []);
    commit(&*store, batch).await;
}

pub async fn tenants_are_listed_from_their_first_entry(factory: &dyn Factory) {
    let store = factory.open().await;
    for name in ["zebra", "acme-2", "acme", "0"] {
        created(&*store, &mut tenant(name), "Billing").await;
    }
    let mut late = tenant("late");
    let stranger = late.system("Never was");
    let delete = late.delete(&stranger);
    assert_eq!(refused(&*store, delete).await, Conflict::Row);

    assert_eq!(store.list_tenants().await.unwrap(), ["0", "acme", "acme-2", "zebra"].map(tenant_id));

    let mut acme = tenant("acme");
    acme.now = acme.now.plus(SECOND);
    for system in systems(&*store, &acme.id).await {
        let delete = acme.delete(&system);
        commit(&*store, delete).await;
    }
    assert_eq!(store.list_tenants().await.unwrap().len(), 4, "a log outlives its systems");
}

async fn with_row(store: &dyn Store, tenant: &mut Tenant) -> TenantRow {
    let row = TenantRow::new(tenant.id.clone(), system_name("Tenant"), START);
    let batch = tenant.note(AuditAction::TenantCreated).insert(Row::Tenant(row.clone()));
    commit(store, batch).await;
    row
}

pub async fn rows_of_tenants_are_found_and_listed(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut bolt, mut acme) = (tenant("bolt"), tenant("acme"));
    assert_eq!(store.find_tenant(&acme.id).await.unwrap(), None);
    let second = with_row(&*store, &mut bolt).await;
    let first = with_row(&*store, &mut acme).await;
    assert_eq!(store.list_all_tenants().await.unwrap(), [first.clone(), second.clone()]);
    let again = acme.note(AuditAction::TenantCreated).insert(Row::Tenant(first.clone()));
    assert_eq!(refused(&*store, again).await, Conflict::Row);

    let suspended = first.suspend(Reason::parse("unpaid").unwrap(), START.plus(SECOND)).unwrap();
    let change = acme.note(AuditAction::TenantSuspended).replace(Row::Tenant(suspended.clone()));
    commit(&*store, change).await;
    assert_eq!(store.find_tenant(&acme.id).await.unwrap(), Some(suspended.clone()));
    let stale = acme.note(AuditAction::TenantDeleted).delete(&Row::Tenant(first));
    assert_eq!(refused(&*store, stale).await, Conflict::Row);
    let deletion = acme.note(AuditAction::TenantDeleted).delete(&Row::Tenant(suspended));
    commit(&*store, deletion).await;
    assert_eq!(store.find_tenant(&acme.id).await.unwrap(), None);
    assert_eq!(store.list_all_tenants().await.unwrap(), [second]);
}

pub async fn tenant_with_systems_is_not_deleted(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut acme2) = (tenant("acme"), tenant("acme2"));
    let row = with_row(&*store, &mut acme).await;
    let billing = created(&*store, &mut acme, "Billing").await;
    created(&*store, &mut acme2, "Billing").await;
    let deletion = acme.note(AuditAction::TenantDeleted).delete(&Row::Tenant(row.clone()));
    assert_eq!(refused(&*store, deletion).await, Conflict::TenantNotEmpty);
    let removal = acme.note(AuditAction::SystemDeleted).delete(&Row::System(billing));
    commit(&*store, removal).await;
    let ada = Row::Operator(acme.operator("ada"));
    let addition = acme.note(AuditAction::OperatorAdded).insert(ada.clone());
    commit(&*store, addition).await;
    let deletion = acme.note(AuditAction::TenantDeleted).delete(&Row::Tenant(row.clone()));
    assert_eq!(refused(&*store, deletion).await, Conflict::Row, "an operator would be left");
    let deletion = acme.note(AuditAction::TenantDeleted).delete(&ada).delete(&Row::Tenant(row));
    commit(&*store, deletion).await;
    assert_eq!(store.find_tenant(&acme.id).await.unwrap(), None);
}

pub async fn system_requires_a_tenant_that_exists(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let row = with_row(&*store, &mut acme).await;
    let renamed = row.rename(system_name("Renamed"), START).unwrap();
    let change = acme.note(AuditAction::TenantRenamed).replace(Row::Tenant(renamed.clone()));
    commit(&*store, change).await;
    // Any revision will do.
    let system = Row::System(acme.system("Billing"));
    let creation = acme.note(AuditAction::SystemCreated).insert(system.clone()).requires_tenant(&row);
    commit(&*store, creation).await;
    let removal = acme.note(AuditAction::SystemDeleted).delete(&system);
    commit(&*store, removal).await;
    let deletion = acme.note(AuditAction::TenantDeleted).delete(&Row::Tenant(renamed));
    commit(&*store, deletion).await;
    let late = Row::System(acme.system("Payroll"));
    let creation = acme.note(AuditAction::SystemCreated).insert(late).requires_tenant(&row);
    assert_eq!(refused(&*store, creation).await, Conflict::Row);
}
