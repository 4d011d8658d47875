//! A store that was restored from a backup: what Keymark refuses until that is stated, and what an export takes away again.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures::TryStreamExt;
use http::Method;
use keymark::admin::Command;
use keymark::admin::tokens::{TokenCommand, TokenLife};
use keymark::domain::permissions::Permissions;
use keymark::service::Settings;
use keymark::service::checkpoint_file::FILE_NAME;
use keymark::store::mongo::MongoOptions;
use mongodb::bson::{Document, doc};
use serde_json::{Value as Json, json};
use tempfile::{NamedTempFile, TempDir};

use crate::support::actors::{ALL, App, PASSWORD, PLATFORM, SECRET, Setup};
use crate::support::faulty::Switch;
use crate::support::process::{Server, directory, keymark};
use crate::support::{at_both_places, mongod, on_both_stores, within};
use crate::tokens::{administrator, created};

on_both_stores![
    replay_takes_away_again_what_was_taken_away_after_the_backup,
    replay_revokes_tokens_again,
    replay_leaves_what_is_changed_after_it,
    replay_ends_where_codes_were_given_back,
    replay_ends_rotated_keys_and_suspends_again,
    replay_suspends_and_deletes_tenants_again,
    sessions_of_before_a_restore_are_refused_on_every_instance,
    export_that_does_not_continue_the_log_is_refused,
    replaced_history_is_named_and_any_other_difference_is_found,
    log_of_a_tenant_that_the_backup_lacks_is_not_missed,
    statement_that_failed_half_way_has_to_be_repeated,
    records_of_a_previous_secret_are_signed_anew,
];

/// The whole log of a tenant, as a file.
async fn export(app: &App, tenant: &str) -> NamedTempFile {
    let command = Command::ExportAudit { tenant: tenant.parse().expect("a tenant"), jsonl: true };
    file_of(app.command(command).await.expect("an intact log").as_bytes())
}

fn file_of(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(content).expect("written");
    file
}

async fn replay(app: &App, file: &NamedTempFile) -> Result<String, String> {
    let outcome = app.command(Command::ReplayAudit { file: file.path().to_owned() }).await;
    outcome.map_err(|error| error.replace(file.path().to_str().unwrap(), "FILE"))
}

async fn verify(app: &App) -> Result<String, String> {
    app.command(Command::VerifyAudit { tenant: None }).await
}

async fn set_password(app: &App, username: &str, password: &str) {
    let (username, password) = (username.parse().unwrap(), Some(password.to_owned()));
    app.command(Command::SetPassword { username, password }).await.expect("set");
}

async fn replay_takes_away_again_what_was_taken_away_after_the_backup(app: App) {
    let boss = app.operator(&ALL).await;
    for (username, codes) in [("alice", &ALL[..]), ("bob", &ALL), ("carol", &ALL)] {
        app.add_operator("acme", username, codes).await;
    }
    let mut keys = Vec::new();
    let mut systems = Vec::new();
    for name in ["Revoked", "Deleted", "Kept", "Keyless"] {
        let system = boss.create_system(name).await;
        keys.push(boss.generate_key(&system.id).await);
        systems.push(system);
    }
    let restored = app.restored(2).await;

    boss.revoke_key(&systems[0].id).await;
    let renewed = boss.generate_key(&systems[0].id).await;
    boss.delete_system(&systems[1].id).await;
    boss.revoke_key(&systems[3].id).await;
    boss.delete_system(&systems[3].id).await;
    let later = boss.create_system("Later").await;
    let late = boss.generate_key(&later.id).await;
    boss.revoke_key(&later.id).await;
    set_password(&app, "alice", "another passphrase of hers").await;
    set_password(&app, "bob", "another passphrase of his").await;
    app.command(Command::RemoveOperator { username: "bob".parse().unwrap() }).await.expect("removed");
    let carol = app.sign_in("carol", PASSWORD).await;
    carol.may(&["create"]).await;
    carol.may(&["view", "create"]).await;
    let export = export(&app, "acme").await;

    for key in &keys {
        assert_eq!(restored.verifier().code(&key.api_key).await, "VALID", "that is what a backup brings back");
    }
    let before = restored.log_of("acme").await.len();
    let said = replay(&restored, &export).await.expect("replayed");
    let ids = [&systems[0], &systems[1], &systems[3], &later].map(|system| system.id.clone());
    let marks = [&keys[0], &late].map(|key| key.system.key_mark.clone().expect("a mark"));
    assert_eq!(
        said,
        format!(
            "acme: epoch 1: a backup restored by 2023-11-14T22:13:20.000Z replaced the log after entry 13, which had 28 \
             entries or more\n\
             entry 14: revoked key …{} of system {} (Revoked)\n\
             entry 16: deleted system {} (Deleted)\n\
             entry 18: deleted system {} (Keyless)\n\
             entry 21: nothing to do, system {} (Later) does not have key …{}\n\
             entry 22: disabled the password of operator alice; set another: keymark operator set-password alice\n\
             entry 24: removed operator bob\n\
             entry 27: took permission codes from operator carol, except \
             api_key_management:view,api_key_management:create\n",
            marks[0], ids[0], ids[1], ids[2], ids[3], marks[1]
        )
    );
    let verdicts = async |key: &str| restored.verifier().code(key).await;
    for (key, verdict) in [(&keys[0], "REVOKED"), (&keys[1], "REVOKED"), (&keys[2], "VALID"), (&keys[3], "REVOKED")] {
        assert_eq!(verdicts(&key.api_key).await, verdict, "{}", key.system.name);
    }
    assert_eq!(verdicts(&renewed.api_key).await, "NOT_FOUND", "the backup does not have it");
    assert!(!boss.at(&restored).is_signed_in().await);
    for (username, password) in [("alice", PASSWORD), ("alice", "another passphrase of hers"), ("bob", PASSWORD)] {
        let answer = restored.anonymous().sign_in(username, password).await;
        assert_eq!(answer.code(), Some("INVALID_CREDENTIALS"), "{username}");
    }
    let answer = restored.anonymous().sign_in("carol", PASSWORD).await;
    let codes = json!(["api_key_management:view", "api_key_management:create"]);
    assert_eq!(answer.data("signIn.viewer.permissions"), &codes);

    let log = restored.log_of("acme").await;
    let written: Vec<_> = log[before..].iter().map(|entry| entry["event"]["action"].as_str().unwrap()).collect();
    let (replayed, rest) = written.split_at(7);
    assert_eq!(
        replayed,
        [
            "STORE_RESTORED",
            "KEY_REVOKED",
            "SYSTEM_DELETED",
            "SYSTEM_DELETED",
            "PASSWORD_CHANGED",
            "OPERATOR_REMOVED",
            "PERMISSIONS_CHANGED"
        ]
    );
    assert!(log[before..][..7].iter().all(|entry| entry["event"]["actor"]["kind"] == "COMMAND_LINE"));
    assert!(!rest.contains(&"STORE_RESTORED"));

    let again = replay(&restored, &export).await;
    assert_eq!(again.as_deref(), Ok("acme: nothing left to replay up to entry 28\n"));
    let metrics = restored.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    assert!(metrics.contains("\nkeymark_store_epoch 1\n"), "{metrics}");
}

async fn replay_revokes_tokens_again(app: App) {
    let admin = administrator(&app).await;
    let all = || Some(Permissions::all_of(false));
    let mut tokens = Vec::new();
    for name in ["Revoked", "Rotated", "Kept"] {
        tokens.push(created(&app, "acme", name, all(), false).await);
    }
    let gateway = created(&app, "acme", "Gateway", None, false).await;
    let restored = app.restored(2).await;

    let command = |command| app.command(Command::Token { tenant: "acme".parse().unwrap(), command });
    let revoke = |token: &str, is_service| TokenCommand::Revoke { token: token.to_owned(), is_service };
    command(revoke("Revoked", true)).await.expect("revoked");
    command(revoke("Gateway", false)).await.expect("revoked");
    let rotate = TokenCommand::Rotate { token: "Rotated".to_owned(), overlap_seconds: 0, life: TokenLife::Default };
    command(rotate).await.expect("rotated");
    let export = export(&app, "acme").await;

    let status = async |token: &str| {
        let viewer = restored.anonymous().bearing(token).query("{ viewer { username } }", json!({})).await;
        viewer.status.as_u16()
    };
    let admitted = async || {
        let answer = restored.verifier().forward_auth(&[("x-keymark-verifier-token", &gateway)]).await;
        answer.status.as_u16()
    };
    assert_eq!((status(&tokens[0]).await, admitted().await), (200, 401), "that is what a backup brings back");
    let said = replay(&restored, &export).await.expect("replayed");
    assert_eq!(
        [status(&tokens[0]).await, status(&tokens[1]).await, status(&tokens[2]).await],
        [401, 401, 200],
        "{said}"
    );
    assert_eq!(admitted().await, 403);
    for token in tokens.iter().chain([&gateway]) {
        assert!(!said.contains(&token[4..]));
    }
    let there = restored.anonymous().with("authorization", admin.headers[0].1.clone());
    let listed = there.query("{ serviceTokens { nodes { name } } verifierTokens { totalCount } }", json!({})).await;
    let listed_names = listed.data("serviceTokens.nodes").to_string();
    assert_eq!((listed_names.contains("Kept"), listed_names.matches("name").count()), (true, 2), "{listed_names}");
    assert_eq!(*listed.data("verifierTokens.totalCount"), 0);
    let again = replay(&restored, &export).await.expect("replayed");
    assert!(again.starts_with("acme: nothing left to replay"), "{again}");
}

async fn replay_leaves_what_is_changed_after_it(app: App) {
    let boss = app.operator(&ALL).await;
    app.add_operator("acme", "alice", &ALL).await;
    let restored = app.restored(2).await;
    set_password(&app, "alice", "another passphrase of hers").await;
    app.sign_in("alice", "another passphrase of hers").await.may(&["view"]).await;
    let first = export(&app, "acme").await;
    let system = boss.create_system("Billing").await;
    boss.delete_system(&system.id).await;
    let second = export(&app, "acme").await;

    replay(&restored, &first).await.expect("replayed");
    set_password(&restored, "alice", "a third passphrase of hers").await;
    let alice = restored.sign_in("alice", "a third passphrase of hers").await;
    alice.may(&ALL).await;
    let said = replay(&restored, &first).await.expect("replayed");
    assert!(said.contains("nothing left"), "{said}");
    let said = replay(&restored, &second).await.expect("replayed");
    assert!(said.lines().count() == 1 && said.contains("nothing to do, system sys_"), "only what is new in it: {said}");
    let said = replay(&restored, &first).await.expect("replayed");
    assert!(said.contains("nothing left"), "an older one does not begin again: {said}");
    assert!(alice.is_signed_in().await);
    assert_eq!(alice.try_create_system("Allowed").await.code(), None);
}

async fn replay_ends_where_codes_were_given_back(app: App) {
    app.add_operator("acme", "carol", &["view", "edit"]).await;
    let restored = app.restored(2).await;
    let carol = app.sign_in("carol", PASSWORD).await;
    carol.may(&[]).await;
    carol.may(&ALL).await;
    let said = replay(&restored, &export(&app, "acme").await).await.expect("replayed");
    assert!(said.contains("nothing to do, operator carol does not exist, or has no permission code except"), "{said}");
    let answer = restored.anonymous().sign_in("carol", PASSWORD).await;
    let codes = json!(["api_key_management:view", "api_key_management:edit"]);
    assert_eq!(answer.data("signIn.viewer.permissions"), &codes, "no code is added");
}

async fn replay_ends_rotated_keys_and_suspends_again(app: App) {
    let boss = app.operator(&ALL).await;
    let mut keys = Vec::new();
    for name in ["Rotated", "Revoked", "Overlapping", "Suspended", "Resumed", "Kept", "Lost"] {
        let system = boss.create_system(name).await;
        keys.push(boss.generate_key(&system.id).await);
    }
    let rotate = async |at: usize, overlap: u32| {
        let document = "mutation ($id: ID!, $overlap: Int!) {
            rotateKey(systemId: $id, overlapSeconds: $overlap) { apiKey } }";
        let variables = json!({ "id": keys[at].system.id, "overlap": overlap });
        boss.query(document, variables).await.data("rotateKey.apiKey").as_str().expect("a key").to_owned()
    };
    let change = async |name: &str, at: usize| {
        let argument = if name == "endRotation" { "systemId" } else { "id" };
        let document = format!("mutation ($id: ID!) {{ {name}({argument}: $id) {{ system {{ id }} }} }}");
        assert_eq!(boss.query(&document, json!({ "id": keys[at].system.id })).await.code(), None);
    };
    let current = rotate(5, 3600).await;
    let lost = rotate(6, 3600).await;
    let restored = app.restored(2).await;
    rotate(0, 0).await;
    rotate(1, 3600).await;
    boss.revoke_key(&keys[1].system.id).await;
    rotate(2, 3600).await;
    change("suspendSystem", 3).await;
    change("suspendSystem", 4).await;
    change("resumeSystem", 4).await;
    change("endRotation", 5).await;
    rotate(6, 0).await;
    replay(&restored, &export(&app, "acme").await).await.expect("replayed");
    let verdict = async |key: &str| restored.verifier().code(key).await;
    let expected = ["REVOKED", "REVOKED", "VALID", "SUSPENDED", "VALID", "REVOKED", "VALID"];
    for (at, expected) in expected.into_iter().enumerate() {
        assert_eq!(verdict(&keys[at].api_key).await, expected, "{}", keys[at].system.name);
    }
    assert_eq!(verdict(&current).await, "VALID", "only the retiring key of this one was ended");
    assert_eq!(verdict(&lost).await, "REVOKED", "it was rotated out, and the retiring key was not");
    restored.clock.advance(Duration::from_secs(3600));
    assert_eq!(verdict(&keys[2].api_key).await, "EXPIRED", "its overlap is over");
    let said = replay(&restored, &export(&app, "acme").await).await.expect("replayed");
    assert!(said.contains("nothing left"), "{said}");
}

async fn replay_suspends_and_deletes_tenants_again(app: App) {
    let platform = app.platform_operator("default", &PLATFORM).await;
    for id in ["acme", "bolt", "core"] {
        assert_eq!(platform.change_tenant("createTenant", id, "name: \"Tenant\"").await.code(), None);
    }
    let acme = platform.acting_in("acme");
    let key = acme.generate_key(&acme.create_system("Billing").await.id).await.api_key;
    let restored = app.restored(2).await;
    platform.suspend_tenant("acme").await;
    platform.suspend_tenant("core").await;
    platform.resume_tenant("core").await;
    assert_eq!(platform.delete_tenant("bolt").await.code(), None);
    assert_eq!(restored.verifier().code(&key).await, "VALID");
    for (tenant, expected) in
        [("acme", "suspended the tenant"), ("bolt", "deleted the tenant"), ("core", "nothing to do")]
    {
        let said = replay(&restored, &export(&app, tenant).await).await.expect("replayed");
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(restored.verifier().code(&key).await, "SUSPENDED");
    let remaining = restored.store.list_all_tenants().await.expect("a list");
    let remaining: Vec<_> = remaining.iter().map(|tenant| (tenant.id.as_str(), tenant.suspended.is_some())).collect();
    assert_eq!(remaining, [("acme", true), ("core", false), ("default", false)]);
}

async fn sessions_of_before_a_restore_are_refused_on_every_instance(app: App) {
    let operators = [app.operator(&ALL).await, app.operator_of("other", &["view"]).await];
    let restored = app.restored(2).await;
    let another = restored.instance(3).await;
    another.wait_for_cache().await;
    for operator in &operators {
        assert!(operator.at(&restored).is_signed_in().await && operator.at(&another).is_signed_in().await);
    }
    let lost = app.sign_in(&operators[0].username, PASSWORD).await;
    let said = restored.command(Command::MarkRestored).await.expect("stated");
    assert!(said.starts_with("acme: epoch 1: ") && said.contains("\nother: epoch 1: "), "{said}");
    for operator in operators.iter().chain([&lost]) {
        for instance in [&restored, &another] {
            assert!(!operator.at(instance).is_signed_in().await, "{}", operator.username);
        }
        let again = restored.sign_in(&operator.username, PASSWORD).await;
        assert!(again.at(&another).is_signed_in().await);
    }
    let said = restored.command(Command::MarkRestored).await.expect("stated");
    assert!(said.contains("acme: epoch 2: "), "{said}");
}

async fn export_that_does_not_continue_the_log_is_refused(app: App) {
    let boss = app.operator(&ALL).await;
    let system = boss.create_system("Billing").await;
    let key = boss.generate_key(&system.id).await;
    let restored = app.restored(2).await;
    let length = restored.log_of("acme").await.len();
    boss.create_system("Payroll").await;
    boss.revoke_key(&system.id).await;
    let whole = std::fs::read_to_string(export(&app, "acme").await.path()).expect("an export");
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();

    let refused = async |content: &str, expected: &str| {
        let error = replay(&restored, &file_of(content.as_bytes())).await.expect_err("refused");
        assert!(error.starts_with("FILE: ") && error.contains(expected), "{error}");
    };
    refused(&whole.replace("Payroll", "Payrolls"), "entry 5, or the one before it, was modified").await;
    refused(&lines[..lines.len() - 1].concat(), "without a checkpoint: its end was cut off").await;
    refused("", "without a checkpoint").await;
    let address = "/audit/export?format=jsonl&actions=SYSTEM_CREATED,SIGNED_IN";
    refused(&boss.get(address).await.text, "the export leaves out entry 4: export the log without a filter").await;
    let address = "/audit/export?format=jsonl&actions=AUDIT_EXPORTED";
    refused(&boss.get(address).await.text, "does not contain entry 6, after which the export begins").await;
    let other = if app.is_embedded() { App::embedded().await } else { App::mongodb().await };
    other.operator(&ALL).await.create_system("Elsewhere").await;
    let foreign = std::fs::read_to_string(export(&other, "acme").await.path()).expect("an export");
    refused(&foreign, "have no entry in common: it shows another store's log").await;
    let key_of_another_store =
        whole.replace(app.command(Command::ShowAuditKeys).await.expect("a key").trim(), &"ab".repeat(32));
    refused(&key_of_another_store, "the checkpoint was modified").await;
    let error = restored.command(Command::ReplayAudit { file: "/nowhere/export".into() }).await.expect_err("refused");
    assert!(error.starts_with("/nowhere/export: the file cannot be read: "), "{error}");

    assert_eq!(restored.log_of("acme").await.len(), length, "nothing was written");
    assert_eq!(restored.verifier().code(&key.api_key).await, "VALID");
    for format in ["jsonl", "csv"] {
        let content = boss.get(&format!("/audit/export?format={format}")).await.text;
        replay(&restored, &file_of(content.as_bytes())).await.expect("replayed");
        assert_eq!(restored.verifier().code(&key.api_key).await, "REVOKED");
    }
}

/// The newest checkpoints of an app, as a command's input.
async fn checkpoints(app: &App) -> Vec<keymark::domain::checkpoints::Checkpoint> {
    let text = app.command(Command::CheckpointAudit).await.expect("intact logs");
    text.lines()
        .map(|line| serde_json::from_value(serde_json::from_str::<Json>(line).unwrap()["checkpoint"].take()).unwrap())
        .collect()
}

async fn replaced_history_is_named_and_any_other_difference_is_found(app: App) {
    let boss = app.operator(&ALL).await;
    let kept = checkpoints(&app).await;
    let restored = app.restored(2).await;
    boss.create_system("Lost").await;
    app.clock.advance(Duration::from_secs(5));
    let lost = checkpoints(&app).await;
    let compare = async |checkpoints: &[keymark::domain::checkpoints::Checkpoint]| {
        restored.command(Command::CompareAudit { tenant: None, checkpoints: checkpoints.to_vec() }).await
    };
    let missing = compare(&lost).await.expect_err("the log ends before it");
    assert!(missing.contains("entry 3 is missing"), "{missing}");
    let said = restored.command(Command::MarkRestored).await.expect("stated");
    let line = "acme: epoch 1: a backup restored by 2023-11-14T22:13:25.000Z replaced the log after entry 2, if there was any\n";
    assert!(said.starts_with(line), "{said}");
    let intact = format!("acme: 3 entries, the chain is intact\n{line}");
    assert_eq!(compare(&[&kept[..], &lost].concat()).await, Ok(intact.clone()));
    assert_eq!(verify(&restored).await, Ok(intact));

    // Both histories go on. The record excuses the one that it replaced until then.
    app.clock.advance(Duration::from_secs(5));
    boss.create_system("Also lost").await;
    let elsewhere = checkpoints(&app).await;
    restored.add_operator("acme", "alice", &ALL).await;
    checkpoints(&restored).await;
    let differs = compare(&elsewhere).await.expect_err("another history");
    assert!(differs.contains("entry 4 is not the one that a checkpoint was signed for"), "{differs}");

    // A record that somebody without the root secret has written excuses nothing.
    let name = "audit-restore/acme/1";
    let record = restored.store.find_setting(name).await.unwrap().expect("a record");
    let forged = record.replace("\"epoch\":1", "\"epoch\":7");
    assert!(restored.store.replace_setting(name, Some(&record), &forged).await.unwrap());
    let differs = compare(&lost).await.expect_err("not excused");
    assert!(differs.contains("entry 3 is not the one that a checkpoint was signed for"), "{differs}");
}

async fn log_of_a_tenant_that_the_backup_lacks_is_not_missed(app: App) {
    app.operator(&ALL).await;
    let restored = app.restored(2).await;
    app.operator_of("late", &["view"]).await;
    let lost = checkpoints(&app).await;
    let export = export(&app, "late").await;
    let said = replay(&restored, &export).await.expect("replayed");
    assert!(said.contains("late: nothing left to replay") && said.contains("late: epoch 1: "), "{said}");
    let said = restored.command(Command::CompareAudit { tenant: None, checkpoints: lost }).await.expect("intact");
    assert!(said.contains("late: 0 entries, the chain is intact\nlate: epoch 1: "), "{said}");
    for _ in 0..2 {
        checkpoints(&restored).await;
    }
    restored.operator_of("late", &["view"]).await;
    assert!(checkpoints(&restored).await.iter().any(|checkpoint| checkpoint.tenant.as_str() == "late"));
    verify(&restored).await.expect("intact");
}

async fn statement_that_failed_half_way_has_to_be_repeated(app: App) {
    let boss = app.operator(&ALL).await;
    let restored = app.restored(2).await;
    boss.create_system("Lost").await;
    let settings = Settings { audit_checkpoints: checkpoints(&app).await, ..Setup::default().settings };
    let switch = Switch::default();
    let setup = Setup { settings, switch: Some(switch.clone()), ..Setup::default() };
    let restored = restored.instance_with(3, setup).await;
    let is_lost = async || !restored.service.find_lost_checkpoints().await.expect("a store that responds").is_empty();
    assert!(is_lost().await);
    let failing = switch.clone();
    switch.after("commit", async move { failing.fail() });
    restored.command(Command::MarkRestored).await.expect_err("the store fails after the sessions have ended");
    switch.work();
    assert!(is_lost().await);
    restored.command(Command::MarkRestored).await.expect("stated");
    assert!(!is_lost().await && !boss.at(&restored).is_signed_in().await);
}

async fn records_of_a_previous_secret_are_signed_anew(app: App) {
    const OTHER_SECRET: &str = "another root secret, which replaces the first";
    let boss = app.operator(&ALL).await;
    let restored = app.restored(2).await;
    boss.create_system("Lost").await;
    checkpoints(&app).await;
    restored.command(Command::MarkRestored).await.expect("stated");
    checkpoints(&restored).await;
    let intact = verify(&restored).await.expect("intact");
    assert!(intact.contains("acme: epoch 1: "), "{intact}");
    let replaced = Setup { secret: OTHER_SECRET, previous_secrets: &[SECRET], ..Setup::default() };
    let replaced = restored.instance_with(3, replaced).await;
    assert_eq!(verify(&replaced).await.as_ref(), Ok(&intact));
    checkpoints(&replaced).await;
    let without = restored.instance_with(4, Setup { secret: OTHER_SECRET, ..Setup::default() }).await;
    assert_eq!(verify(&without).await.as_ref(), Ok(&intact));
}

/// A store that the binary uses, and its backup.
enum Place {
    Embedded(TempDir),
    Mongo(MongoOptions),
}

enum Backup {
    File(Vec<u8>),
    Documents(Vec<(String, Vec<Document>)>),
}

impl Place {
    async fn mongodb() -> Self {
        Self::Mongo(mongod::fresh_database().await)
    }

    fn embedded() -> Self {
        Self::Embedded(directory())
    }

    fn file(directory: &TempDir) -> PathBuf {
        directory.path().join(keymark::store::embedded::FILE_NAME)
    }

    async fn database(options: &MongoOptions) -> mongodb::Database {
        mongod::shared().await.client().await.database(&options.database)
    }

    async fn back_up(&self) -> Backup {
        match self {
            Self::Embedded(directory) => Backup::File(std::fs::read(Self::file(directory)).expect("a store")),
            Self::Mongo(options) => {
                let database = Self::database(options).await;
                let mut collections = Vec::new();
                for name in database.list_collection_names().await.expect("collections") {
                    let documents = database.collection::<Document>(&name).find(doc! {}).await.expect("documents");
                    collections.push((name, documents.try_collect().await.expect("documents")));
                }
                Backup::Documents(collections)
            }
        }
    }

    async fn restore(&self, backup: &Backup) {
        match (self, backup) {
            (Self::Embedded(directory), Backup::File(content)) => {
                std::fs::write(Self::file(directory), content).expect("restored");
            }
            (Self::Mongo(options), Backup::Documents(collections)) => {
                let database = Self::database(options).await;
                for name in database.list_collection_names().await.expect("collections") {
                    database.collection::<Document>(&name).delete_many(doc! {}).await.expect("emptied");
                }
                for (name, documents) in collections.iter().filter(|(_, documents)| !documents.is_empty()) {
                    database.collection::<Document>(name).insert_many(documents).await.expect("restored");
                }
            }
            _ => panic!("a backup of another store"),
        }
    }

    /// The binary on this store. On MongoDB, `checkpoints` are configured; on the embedded store they are beside it.
    fn keymark(&self, checkpoints: &str) -> tokio::process::Command {
        let mut command = keymark();
        command.env("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD);
        match self {
            Self::Embedded(directory) => command.env("KEYMARK_DATA_DIR", directory.path()),
            Self::Mongo(options) => {
                if !checkpoints.is_empty() {
                    command.env("KEYMARK_AUDIT_CHECKPOINT", checkpoints);
                }
                command.envs([("KEYMARK_MONGODB_URI", &options.uri), ("KEYMARK_MONGODB_DATABASE", &options.database)]);
                command.env("KEYMARK_SECRET", SECRET)
            }
        };
        command
    }

    /// Returns the exit code and the output, with the log if it failed.
    async fn run(&self, checkpoints: &str, arguments: &[&str]) -> (i32, String) {
        let output = within(self.keymark(checkpoints).args(arguments).output()).await.expect("the binary runs");
        let log = if output.status.success() { Vec::new() } else { output.stderr };
        let text = String::from_utf8([output.stdout, log].concat()).expect("UTF-8");
        (output.status.code().expect("an exit code"), text)
    }

    async fn start(&self, checkpoints: &str) -> Server {
        let started = Server::run(self.keymark(checkpoints)).await;
        started.unwrap_or_else(|(status, log)| panic!("it did not start: {status}: {log}"))
    }

    /// A store that was restored: its key is revoked in the export, but not in the backup.
    async fn restored(self) -> Restored {
        let server = self.start("").await;
        let token = server.sign_in("admin", PASSWORD).await;
        let document = "mutation { createSystem(name: \"Billing\") { system { id } } }";
        let created = server.graphql(Some(&token), document, json!({})).await;
        let id = json!({ "id": created["data"]["createSystem"]["system"]["id"] });
        let document = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
        let generated = server.graphql(Some(&token), document, id.clone()).await;
        let key = generated["data"]["generateKey"]["apiKey"].as_str().expect("a key").to_owned();
        server.stop().await;
        let backup = self.back_up().await;

        let server = self.start("").await;
        let document = "mutation ($id: ID!) { revokeKey(systemId: $id) { system { id } } }";
        let revoked = server.graphql(Some(&token), document, id).await;
        assert!(revoked["errors"].is_null(), "{revoked}");
        assert_eq!(server.verdict(&key).await, "REVOKED");
        server.stop().await;
        let (code, export) = self.run("", &["audit", "export"]).await;
        assert_eq!(code, 0, "{export}");
        let export = file_of(export.as_bytes());
        let checkpoints = export.path().to_str().expect("UTF-8").to_owned();
        self.restore(&backup).await;
        Restored { place: self, token, key, export, checkpoints }
    }
}

struct Restored {
    place: Place,
    token: String,
    key: String,
    export: NamedTempFile,
    /// The value of `--audit-checkpoint`: the export, which ends with one.
    checkpoints: String,
}

impl Restored {
    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        self.place.run(&self.checkpoints, arguments).await
    }

    async fn replay(&self) -> String {
        let (code, said) = self.run(&["audit", "replay", "--file", self.export.path().to_str().unwrap()]).await;
        assert_eq!(code, 0, "{said}");
        said
    }

    /// Checks that it is not served, and that nothing is written.
    async fn is_not_served(&self) {
        let files = |place: &Place| match place {
            Place::Embedded(directory) => std::fs::read_to_string(directory.path().join(FILE_NAME)).expect("a file"),
            Place::Mongo(_) => String::new(),
        };
        let before = files(&self.place);
        let started = Server::run(self.place.keymark(&self.checkpoints)).await;
        let (status, said) = started.err().expect("it does not start");
        assert_eq!((status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(
            said.contains("keymark: the audit log of tenant default lacks entry 7, which was signed at "),
            "{said}"
        );
        assert!(said.contains("`keymark audit replay --file EXPORT`") && said.contains("`keymark restored`"), "{said}");
        assert_eq!(files(&self.place), before);
        let anywhere = ["doctor", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"];
        let (code, said) = self.run(&anywhere).await;
        let expected = "failed   signed audit entries: the audit log of tenant default lacks entry 7";
        assert!(code == 1 && said.contains(expected), "{said}");
        let (code, said) = self.run(&["audit", "verify"]).await;
        assert!(code == 1 && said.contains("default: entry 5 is missing: the log ends before it, but 7"), "{said}");
    }
}

at_both_places![restored_backup_is_served_once_that_is_stated, restored_backup_is_served_once_an_export_is_replayed,];

async fn restored_backup_is_served_once_that_is_stated(place: Place) {
    let restored = place.restored().await;
    restored.is_not_served().await;
    let (code, said) = restored.run(&["restored"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("default: epoch 1: a backup restored by ") && said.contains("after entry 4, which had 7"),
        "{said}"
    );
    for _ in 0..2 {
        let server = restored.place.start(&restored.checkpoints).await;
        let viewer = server.graphql(Some(&restored.token), "{ viewer { username } }", json!({})).await;
        assert_eq!(viewer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{viewer}");
        server.sign_in("admin", PASSWORD).await;
        let (_, log) = server.stop().await;
        assert!(!log.contains("audit log differs"), "{log}");
    }
    let server = restored.place.start(&restored.checkpoints).await;
    assert_eq!(server.verdict(&restored.key).await, "VALID", "until the export is replayed");
    let said = restored.replay().await;
    assert!(said.lines().count() == 1 && said.contains("entry 5: revoked key …"), "{said}");
    assert_eq!(server.verdict(&restored.key).await, "REVOKED");
    assert_eq!(restored.replay().await, "default: nothing left to replay up to entry 7\n");
    server.stop().await;
    let anywhere = ["doctor", "--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"];
    let (code, said) = restored.run(&anywhere).await;
    assert!(code == 0 && said.contains("ok       signed audit entries: all are in the store"), "{said}");
    let (code, said) = restored.run(&["audit", "verify"]).await;
    assert!(code == 0 && said.contains("the chain is intact\ndefault: epoch 1: a backup restored by "), "{said}");
    assert!(said.contains("replaced the log after entry 4, which had 7 entries or more"), "{said}");
}

async fn restored_backup_is_served_once_an_export_is_replayed(place: Place) {
    let restored = place.restored().await;
    restored.is_not_served().await;
    let said = restored.replay().await;
    assert!(said.contains("default: epoch 1: ") && said.contains("entry 5: revoked key …"), "{said}");
    let server = restored.place.start(&restored.checkpoints).await;
    assert_eq!(server.verdict(&restored.key).await, "REVOKED");
    let viewer = server.graphql(Some(&restored.token), "{ viewer { username } }", json!({})).await;
    assert_eq!(viewer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{viewer}");
    server.stop().await;
    assert_eq!(restored.replay().await, "default: nothing left to replay up to entry 7\n");
}

#[tokio::test]
async fn changes_before_a_restore_is_stated_do_not_hide_it() {
    let restored = Place::embedded().restored().await;
    for username in ["ada", "bea", "cleo", "dora"] {
        let (code, said) = restored.run(&["operator", "add", username]).await;
        assert_eq!(code, 0, "{said}");
    }
    let started = Server::run(restored.place.keymark("")).await;
    let (_, said) = started.err().expect("its log has another entry 7");
    assert!(said.contains("lacks entry 7"), "{said}");
    let said = restored.replay().await;
    assert!(said.contains("after entry 4") && said.contains("entry 5: revoked key …"), "{said}");
    let server = restored.place.start("").await;
    assert_eq!(server.verdict(&restored.key).await, "REVOKED");
    server.stop().await;
}

#[tokio::test]
async fn unusable_checkpoints_in_the_configuration_are_refused() {
    let restored = Place::embedded().restored().await;
    assert_eq!(restored.run(&["restored"]).await.0, 0);
    let (_, line) = restored.run(&["audit", "checkpoint"]).await;
    let start = async |value: &str| {
        let mut command = restored.place.keymark("");
        command.args(["--audit-checkpoint", value]);
        Server::run(command).await.map_err(|(status, said)| (status.code(), said))
    };
    start(&line).await.unwrap_or_else(|(_, said)| panic!("{said}")).stop().await;
    for (value, expected) in [
        ("/nowhere/checkpoints", "`/nowhere/checkpoints` No such file"),
        ("{}", "`{}` contains no checkpoint"),
        (
            &line.replace("\"number\":", "\"number\":1"),
            "neither the root secret nor a previous one has signed that of default",
        ),
    ] {
        let (code, said) = start(value).await.err().expect("refused");
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with("keymark: --audit-checkpoint: ") && said.contains(expected), "{said}");
    }
}
