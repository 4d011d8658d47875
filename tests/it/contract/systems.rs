//! Systems: whole rows are written under conditions, and names are unique within a tenant.

use keymark::domain::audit::AuditAction;
use keymark::domain::changes::{Batch, Expected, Requirement, Row, RowId};
use keymark::domain::system_names::Search;
use keymark::domain::systems::System;
use keymark::store::{Conflict, Store};

use super::Factory;
use super::fixtures::*;

pub async fn created_system_is_found(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = acme.system("Billing");
    let batch = acme.create(&billing);

    let entry = commit(&*store, batch.clone()).await;

    assert_eq!((&entry.tenant, entry.number, &entry.event), (&acme.id, 1, &batch.event));
    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap(), Some(billing.clone()));
    assert_eq!(systems(&*store, &acme.id).await, [billing]);
    assert_eq!(store.count_systems(&acme.id, &Search::All).await.unwrap(), 1);
}

pub async fn systems_are_found_by_many_ids(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let billing = created(&*store, &mut acme, "Billing").await;
    let payments = created(&*store, &mut acme, "Payments").await;
    created(&*store, &mut acme, "Not asked for").await;
    let theirs = created(&*store, &mut bolt, "Of another tenant").await;
    let uncommitted = acme.system("Never committed");

    assert_eq!(store.find_systems(&acme.id, &[]).await.unwrap(), []);
    let ids = [payments.id, uncommitted.id, theirs.id, billing.id];
    let mut found = store.find_systems(&acme.id, &ids).await.unwrap();
    found.sort_by_key(|system| system.name.folded());
    assert_eq!(found, [billing, payments]);
}

pub async fn replace_writes_the_whole_row(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;
    acme.now = acme.now.plus(SECOND);

    let (payments, batch) = acme.rename(&billing, "Payments 日本語 🇫🇷");
    let entry = commit(&*store, batch).await;

    assert_eq!(entry.number, 2);
    assert_eq!((payments.revision, payments.created_at, payments.updated_at), (2, START, START.plus(SECOND)));
    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap(), Some(payments.clone()));
    assert_eq!(systems(&*store, &acme.id).await, [payments]);
}

pub async fn stale_revision_is_refused(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;
    let (_, batch) = acme.rename(&billing, "Payments");
    commit(&*store, batch).await;

    let (_, late) = acme.rename(&billing, "Invoices");
    assert_eq!(refused(&*store, late).await, Conflict::Row);
    let (_, _, late) = acme.generate(&billing);
    assert_eq!(refused(&*store, late).await, Conflict::Row);
    let late = acme.delete(&billing);
    assert_eq!(refused(&*store, late).await, Conflict::Row);
}

pub async fn existing_row_is_not_inserted_again(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;

    let (same_id, _) = acme.rename(&billing, "Payments");
    let again = acme.create(&same_id);

    assert_eq!(refused(&*store, again).await, Conflict::Row);
}

pub async fn missing_row_is_neither_replaced_nor_deleted(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = acme.system("Billing");

    let (_, rename) = acme.rename(&billing, "Payments");
    assert_eq!(refused(&*store, rename).await, Conflict::Row);
    let delete = acme.delete(&billing);
    assert_eq!(refused(&*store, delete).await, Conflict::Row);
}

pub async fn deleted_system_keeps_its_log(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;

    let delete = acme.delete(&billing);
    commit(&*store, delete).await;

    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap(), None);
    assert_eq!(systems(&*store, &acme.id).await, []);
    assert_eq!(store.count_systems(&acme.id, &Search::All).await.unwrap(), 0);
    let names = log(&*store, &acme.id).await.into_iter().map(|entry| entry.event.system_name.unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["Billing", "Billing"]);
}

pub async fn names_with_equal_folding_are_taken(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let other = created(&*store, &mut acme, "Something else").await;
    for (taken, alike) in [
        ("Payments", "pAYMENTS"),
        ("Same name", "Same name"),
        ("ＡＢＣ app", "abc APP"),
        ("ﬁle store", "FILE STORE"),
        ("ſhop one", "Shop One"),
        ("Straße", "STRASSE"),
        ("Café", "CAFE\u{301}"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("５G core", "5g CORE"),
        ("a.b$c", "A.B$C"),
    ] {
        created(&*store, &mut acme, taken).await;

        let twin = acme.system(alike);
        let create = acme.create(&twin);
        assert_eq!(refused(&*store, create).await, Conflict::NameTaken, "{alike}");
        let (_, rename) = acme.rename(&other, alike);
        assert_eq!(refused(&*store, rename).await, Conflict::NameTaken, "{alike}");
    }
}

pub async fn system_may_change_the_case_of_its_name(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;

    let (louder, batch) = acme.rename(&billing, "BILLING");
    commit(&*store, batch).await;

    assert_eq!(systems(&*store, &acme.id).await, [louder]);
    let twin = acme.system("billing");
    let create = acme.create(&twin);
    assert_eq!(refused(&*store, create).await, Conflict::NameTaken);
}

pub async fn freed_name_is_available_immediately(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let first = created(&*store, &mut acme, "Billing").await;

    let delete = acme.delete(&first);
    commit(&*store, delete).await;
    let second = created(&*store, &mut acme, "BILLING").await;
    let (second, batch) = acme.rename(&second, "Payments");
    commit(&*store, batch).await;
    let third = created(&*store, &mut acme, "billing").await;

    assert_eq!(systems(&*store, &acme.id).await, [third, second]);
}

pub async fn another_tenant_may_use_the_name(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));

    let ours = created(&*store, &mut acme, "Billing").await;
    let theirs = created(&*store, &mut bolt, "Billing").await;

    assert_eq!(systems(&*store, &acme.id).await, [ours]);
    assert_eq!(systems(&*store, &bolt.id).await, [theirs]);
}

pub async fn batch_with_a_conflict_in_its_last_write_changes_nothing(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let stale = created(&*store, &mut acme, "Billing").await;
    let (_, batch) = acme.rename(&stale, "Payments");
    commit(&*store, batch).await;
    let bystander = created(&*store, &mut acme, "Bystander").await;
    let admin = acme.operator("admin");
    let add = acme.add(&admin);
    commit(&*store, add).await;

    let (namesake, second_admin) = (acme.system("PAYMENTS"), acme.operator("admin"));
    for (last, conflict) in [
        (Row::System(namesake), Conflict::NameTaken),
        (Row::Operator(second_admin), Conflict::UsernameTaken),
        (Row::System(stale.clone()), Conflict::Row),
    ] {
        let batch = full_of_writes(&mut acme, &bystander).insert(last);
        assert_eq!(refused(&*store, batch).await, conflict);
    }
    let (too_late, _) = acme.rename(&stale, "Invoices");
    let batch = full_of_writes(&mut acme, &bystander).replace(Row::System(too_late));
    assert_eq!(refused(&*store, batch).await, Conflict::Row);
    let gone = acme.system("Never was");
    let batch = full_of_writes(&mut acme, &bystander).delete(&Row::System(gone));
    assert_eq!(refused(&*store, batch).await, Conflict::Row);
}

/// A valid batch with writes of every kind, which also deletes the bystander.
fn full_of_writes(acme: &mut Tenant, bystander: &System) -> Batch {
    let one = acme.system("One more");
    let (with_key, key, _) = acme.generate(&one);
    let operator = acme.operator("somebody");
    let session = acme.session(&operator);
    acme.note(AuditAction::SystemCreated)
        .insert(Row::System(with_key))
        .insert(Row::Key(key))
        .insert(Row::Operator(operator))
        .insert(Row::Session(session))
        .delete(&Row::System(bystander.clone()))
        .once("a marker")
}

pub async fn batch_does_not_take_a_name_twice(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let (one, twin) = (acme.system("Billing"), acme.system("BILLING"));
    let both = acme.create(&one).insert(Row::System(twin));
    assert_eq!(refused(&*store, both).await, Conflict::NameTaken);

    let (ada, namesake) = (acme.operator("ada"), acme.operator("ada"));
    let both = acme.add(&ada).insert(Row::Operator(namesake));
    assert_eq!(refused(&*store, both).await, Conflict::UsernameTaken);
}

pub async fn external_id_is_found_exactly_and_within_its_tenant(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let find = async |tenant: &Tenant, text: &str| {
        let found = store.find_system_by_external_id(&tenant.id, &external_id(text)).await.unwrap();
        found.map(|system| system.name.to_string())
    };
    let (billing, theirs) = (created(&*store, &mut acme, "Billing").await, created(&*store, &mut bolt, "Theirs").await);
    assert_eq!(find(&acme, "cus_$1").await, None);
    let (billing, batch) = acme.identify(&billing, Some("cus_$1"));
    commit(&*store, batch).await;
    let (_, batch) = bolt.identify(&theirs, Some("cus_$1"));
    commit(&*store, batch).await;
    assert_eq!(find(&acme, "cus_$1").await.as_deref(), Some("Billing"));
    assert_eq!(find(&bolt, "cus_$1").await.as_deref(), Some("Theirs"));
    for other in ["CUS_$1", "cus_", "cus_$11", "ｃus_$1", "cus_.1"] {
        assert_eq!(find(&acme, other).await, None, "{other}");
    }
    assert_eq!(store.find_system(&acme.id, billing.id).await.unwrap().as_ref(), Some(&billing));

    let (moved, batch) = acme.identify(&billing, Some("cus_2"));
    commit(&*store, batch).await;
    assert_eq!((find(&acme, "cus_$1").await, find(&acme, "cus_2").await.as_deref()), (None, Some("Billing")));
    let (without, batch) = acme.identify(&moved, None);
    commit(&*store, batch).await;
    assert_eq!(find(&acme, "cus_2").await, None);
    let (again, batch) = acme.identify(&without, Some("cus_2"));
    commit(&*store, batch).await;
    let delete = acme.delete(&again);
    commit(&*store, delete).await;
    assert_eq!(find(&acme, "cus_2").await, None, "deleted with its system");
}

pub async fn external_id_of_another_system_is_taken_until_it_is_free(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;
    let payments = created(&*store, &mut acme, "Payments").await;
    let (billing, batch) = acme.identify(&billing, Some("cus_1"));
    commit(&*store, batch).await;

    let (_, take) = acme.identify(&payments, Some("cus_1"));
    assert_eq!(refused(&*store, take).await, Conflict::ExternalIdTaken);
    let twin = System { external_id: Some(external_id("cus_1")), ..acme.system("Twin") };
    let create = acme.create(&twin);
    assert_eq!(refused(&*store, create).await, Conflict::ExternalIdTaken);
    let (namesake, rename) = acme.rename(&billing, "Billing EU");
    commit(&*store, rename).await;
    let (payments, batch) = acme.identify(&payments, Some("CUS_1"));
    commit(&*store, batch).await;

    let delete = acme.delete(&namesake);
    commit(&*store, delete).await;
    let (payments, batch) = acme.identify(&payments, Some("cus_1"));
    commit(&*store, batch).await;
    assert_eq!(systems(&*store, &acme.id).await, [payments]);
}

pub async fn batch_does_not_take_an_external_id_twice(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let [one, twin] =
        ["Billing", "Payments"].map(|name| System { external_id: Some(external_id("cus_1")), ..acme.system(name) });
    let both = acme.create(&one).insert(Row::System(twin));
    assert_eq!(refused(&*store, both).await, Conflict::ExternalIdTaken);
}

pub async fn one_of_20_concurrent_settings_of_an_external_id_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let mut changes = Vec::new();
    for i in 0..20 {
        let system = created(&*instances[0], &mut acme, &format!("System {i}")).await;
        changes.push(acme.identify(&system, Some("cus_1")));
    }

    let (changed, batches): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
    let (winner, conflicts) = one_of(&instances, batches).await;

    assert_eq!(conflicts, [Conflict::ExternalIdTaken; 19]);
    for store in &instances {
        let found = store.find_system_by_external_id(&acme.id, &external_id("cus_1")).await.unwrap();
        assert_eq!(found.as_ref(), Some(&changed[winner]));
    }
}

pub async fn unmet_requirement_refuses_the_batch(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let billing = created(&*store, &mut acme, "Billing").await;
    let one = acme.system("One");
    let absent = Requirement { row: RowId::System(one.id), expected: Expected::Absent };

    let mut holds = acme.create(&one).requires(&Row::System(billing.clone()));
    holds.requires.push(absent.clone());
    commit(&*store, holds).await;

    let two = acme.system("Two");
    let mut there_already = acme.create(&two);
    there_already.requires.push(absent);
    assert_eq!(refused(&*store, there_already).await, Conflict::Row);

    let (payments, batch) = acme.rename(&billing, "Payments");
    commit(&*store, batch).await;
    let changed = acme.create(&two).requires(&Row::System(billing));
    assert_eq!(refused(&*store, changed).await, Conflict::Row);

    let delete = acme.delete(&payments);
    commit(&*store, delete).await;
    let gone = acme.create(&two).requires(&Row::System(payments));
    assert_eq!(refused(&*store, gone).await, Conflict::Row);
}

pub async fn one_of_50_concurrent_creates_of_a_name_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let twins: Vec<_> = (0..50).map(|i| acme.system(if i % 2 == 0 { "Billing" } else { "ｂｉｌｌｉｎｇ" })).collect();

    let batches = twins.iter().map(|twin| acme.create(twin)).collect();
    let (winner, conflicts) = one_of(&instances, batches).await;

    assert_eq!(conflicts, [Conflict::NameTaken; 49]);
    for store in &instances {
        assert_eq!(systems(&**store, &acme.id).await, [twins[winner].clone()]);
        assert_eq!(store.audit_head(&acme.id).await.unwrap().number, 1);
    }
}

pub async fn one_of_20_concurrent_renames_to_a_name_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let mut renames = Vec::new();
    for i in 0..20 {
        let system = created(&*instances[0], &mut acme, &format!("System {i}")).await;
        renames.push(acme.rename(&system, "Billing"));
    }

    let (renamed, batches): (Vec<_>, Vec<_>) = renames.into_iter().unzip();
    let (winner, conflicts) = one_of(&instances, batches).await;

    assert_eq!(conflicts, [Conflict::NameTaken; 19]);
    assert_eq!(systems(&*instances[0], &acme.id).await[0], renamed[winner]);
}

pub async fn one_of_20_concurrent_renames_of_a_revision_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let billing = created(&*instances[0], &mut acme, "Billing").await;

    let (renamed, batches): (Vec<_>, Vec<_>) = (0..20).map(|i| acme.rename(&billing, &format!("Name {i}"))).unzip();
    let (winner, conflicts) = one_of(&instances, batches).await;

    assert_eq!(conflicts, [Conflict::Row; 19]);
    assert_eq!(systems(&*instances[0], &acme.id).await, [renamed[winner].clone()]);
}

/// Creates a system.
pub async fn created(store: &dyn Store, tenant: &mut Tenant, name: &str) -> System {
    let system = tenant.system(name);
    let create = tenant.create(&system);
    commit(store, create).await;
    system
}
