//! `keymark audit archive`: the oldest entries of a log move to a file, and the rest is still the same log.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use keymark::admin::Command;
use keymark::clock::Environment;
use keymark::domain::audit::AuditHead;
use keymark::domain::ids::TenantId;
use keymark::domain::time::Timestamp;
use keymark::service::Settings;
use mongodb::bson::{Document, doc};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support::actors::{ALL, App, Operator, SECRET, Setup};
use crate::support::faulty::Switch;
use crate::support::process::{Server, directory, run};
use crate::support::{mongod, on_both_stores};

on_both_stores![
    oldest_entries_move_to_a_file_and_the_rest_is_the_same_log,
    archives_follow_each_other,
    nothing_is_removed_without_a_complete_archive,
    log_is_not_cut_without_a_signed_record,
    interrupted_archive_is_finished,
    cursors_of_kept_entries_stay_valid_and_those_of_archived_ones_are_refused,
    checkpoints_of_archived_entries_are_not_missed,
    archived_log_is_replayed_after_a_restore,
    archives_and_then_an_export_are_replayed_after_a_restore,
    archive_of_another_history_removes_nothing,
    archive_during_another_one_or_while_the_log_is_followed_leaves_no_gap,
    records_of_a_previous_secret_are_signed_anew,
];

const AUDIT_LOG: &str = "query ($after: String, $before: String, $first: Int, $last: Int) {
    auditLog(after: $after, before: $before, first: $first, last: $last) {
        totalCount nodes { action count actor { name } } edges { cursor }
    }
}";

/// A log of which the first four entries are older than the rest, and a directory for archives.
struct Archived<'a> {
    app: &'a App,
    boss: Operator<'a>,
    directory: TempDir,
    /// When the fifth entry occurred.
    since: Timestamp,
}

impl<'a> Archived<'a> {
    async fn of(app: &'a App) -> Self {
        let boss = app.operator(&ALL).await;
        for name in ["One", "Two"] {
            boss.create_system(name).await;
        }
        app.clock.advance(Duration::from_secs(60));
        boss.create_system("Three").await;
        assert_eq!(app.log_of("acme").await.len(), 5);
        Self { app, boss, directory: directory(), since: app.service.environment().now() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("archive.jsonl")
    }

    async fn archive_to(&self, app: &App, before: Timestamp, file: &Path) -> Result<String, String> {
        let command = Command::ArchiveAudit { tenant: "acme".parse().unwrap(), before, file: file.to_owned() };
        app.command(command).await.map_err(|error| error.replace(file.to_str().unwrap(), "FILE"))
    }

    async fn archive(&self) -> Result<String, String> {
        self.archive_to(self.app, self.since, &self.file()).await
    }

    /// The lines of the archive.
    fn lines(&self) -> Vec<Json> {
        lines(&std::fs::read_to_string(self.file()).expect("an archive"))
    }

    fn is_without_files(&self) -> bool {
        self.directory.path().read_dir().expect("a directory").next().is_none()
    }

    /// The last archived entry.
    fn last(&self) -> AuditHead {
        let checkpoint = &self.lines()[4]["checkpoint"];
        AuditHead { number: 4, hash: checkpoint["hash"].as_str().unwrap().to_owned().try_into().unwrap() }
    }
}

fn lines(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn numbers(app: &App) -> Vec<u64> {
    app.log_of("acme").await.iter().map(|entry| entry["number"].as_u64().unwrap()).collect()
}

async fn verify(app: &App) -> Result<String, String> {
    app.command(Command::VerifyAudit { tenant: None }).await
}

async fn export(app: &App) -> String {
    let command = Command::ExportAudit { tenant: "acme".parse().unwrap(), jsonl: true };
    app.command(command).await.expect("an intact log")
}

/// Verifies an export with the binary, which has no store and no secret.
async fn verify_file(app: &App, file: &Path) -> String {
    let key = app.command(Command::ShowAuditKeys).await.expect("a key");
    let arguments = ["audit", "verify", "--file", file.to_str().unwrap(), "--key", key.trim()];
    let (code, out, err) = run(&[], &arguments).await;
    assert_eq!(code, 0, "{err}");
    out
}

fn archived_line(entries: u64) -> String {
    format!(
        "acme: {entries} entries, the chain is intact\nacme: the entries up to 4 were archived at 2023-11-14T22:14:20.000Z\n"
    )
}

async fn oldest_entries_move_to_a_file_and_the_rest_is_the_same_log(app: App) {
    let log = Archived::of(&app).await;
    let written = app.log_of("acme").await;
    let said = log.archive().await;
    assert_eq!(said, Ok(format!("{}: 4 entries of acme, up to entry 4\n", log.file().display())));
    assert_eq!(std::fs::metadata(log.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = log.lines();
    assert_eq!(lines.len(), 5, "and a checkpoint");
    for (line, entry) in lines.iter().zip(&written[..4]) {
        assert_eq!(
            (&line["number"], &line["hash"], &line["event"]),
            (&entry["number"], &entry["hash"], &entry["event"])
        );
    }
    let said = verify_file(&app, &log.file()).await;
    assert!(said.starts_with("acme: 4 of 4 entries, as they were exported at 2023-11-14T22:14:20.000Z"), "{said}");

    let rest = app.log_of("acme").await;
    assert_eq!((&rest[0], rest.len()), (&written[4], 2));
    let entry = &rest[1]["event"];
    assert_eq!((&entry["action"], &entry["count"]), (&json!("AUDIT_ARCHIVED"), &json!(4)));
    assert_eq!(entry["actor"]["kind"], "COMMAND_LINE");
    let (another, intact) = (app.instance(2).await, Ok(archived_line(2)));
    for instance in [&app, &another] {
        let listed = log.boss.at(instance).query(AUDIT_LOG, json!({ "first": 10 })).await;
        assert_eq!((listed.data("auditLog.totalCount"), listed.data("auditLog.nodes.0.count")), (&json!(2), &json!(4)));
        let done = "{ auditLog(first: 1, filter: { outcome: DONE }) { totalCount } }";
        assert_eq!(*log.boss.at(instance).query(done, json!({})).await.data("auditLog.totalCount"), 2);
        assert_eq!(verify(instance).await, intact);
        let checkpoints = vec![serde_json::from_value(lines[4]["checkpoint"].clone()).unwrap()];
        assert_eq!(instance.command(Command::CompareAudit { tenant: None, checkpoints }).await, intact);
    }
    let metrics = app.verifier().send(Method::GET, "/metrics", &[], String::new()).await.text;
    assert!(metrics.contains("\nkeymark_audit_archived_entries_total 4\n"), "{metrics}");

    let exported = export(&app).await;
    let file = log.directory.path().join("export.jsonl");
    std::fs::write(&file, &exported).expect("written");
    assert!(verify_file(&app, &file).await.starts_with("acme: 3 of 7 entries"));
    let first = &self::lines(&exported)[0];
    assert_eq!((&first["number"], &first["previousHash"]), (&json!(5), &lines[4]["checkpoint"]["hash"]));
    let filtered = log.boss.get("/audit/export?format=csv&actions=AUDIT_ARCHIVED").await.text;
    std::fs::write(&file, filtered).expect("written");
    assert!(verify_file(&app, &file).await.starts_with("acme: 1 of 8 entries"));
}

async fn archives_follow_each_other(app: App) {
    let log = Archived::of(&app).await;
    log.archive().await.expect("archived");
    let next = log.directory.path().join("next.jsonl");
    let none = format!("acme: no entries to archive; the log has none before {}, or only its last one\n", log.since);
    assert_eq!(log.archive_to(&app, log.since, &next).await, Ok(none));
    assert!(!next.exists());
    app.clock.advance(Duration::from_secs(60));
    let now = app.service.environment().now();
    log.archive_to(&app, now, &next).await.expect("archived");
    assert_eq!(numbers(&app).await, [6, 7], "the last entry stays, although it is older");
    let second = lines(&std::fs::read_to_string(&next).expect("an archive"));
    assert_eq!((&second[0]["number"], &second[0]["previousHash"]), (&json!(5), &log.lines()[4]["checkpoint"]["hash"]));
    assert!(verify_file(&app, &next).await.starts_with("acme: 1 of 5 entries"));
    let rest = log.directory.path().join("export.jsonl");
    std::fs::write(&rest, export(&app).await).expect("written");
    let files = [log.file(), next.clone(), rest].map(|file| file.to_str().unwrap().to_owned());
    let verify_files = async |order: &[usize]| {
        let files = order.iter().flat_map(|at| ["--file", &files[*at]]);
        let (code, out, said) = run(&[], &["audit", "verify"].into_iter().chain(files).collect::<Vec<_>>()).await;
        (code, out.lines().count(), said)
    };
    assert_eq!(verify_files(&[0, 1, 2]).await, (0, 4, String::new()), "three files, and a note on the key");
    for order in [[0, 2], [1, 0], [2, 1]] {
        let (code, _, said) = verify_files(&order).await;
        assert!(code == 1 && said.contains("it does not continue "), "{said}");
    }
    let said = verify(&app).await.expect("intact");
    assert!(
        said.contains("acme: 3 entries, the chain is intact\nacme: the entries up to 5 were archived at"),
        "{said}"
    );
    log.boss.create_system("Four").await;
    let head = app.store.audit_head(&"acme".parse().unwrap()).await.expect("a head");
    assert_eq!((head.number, numbers(&app).await), (9, vec![6, 7, 8, 9]));
}

async fn nothing_is_removed_without_a_complete_archive(app: App) {
    let log = Archived::of(&app).await;
    let later = Timestamp::from_millis(log.since.as_millis() + 1);
    let refused = log.archive_to(&app, later, &log.file()).await;
    assert_eq!(refused, Err("the date is in the future".to_owned()));
    let command = Command::ArchiveAudit { tenant: "acne".parse().unwrap(), before: log.since, file: log.file() };
    assert_eq!(app.command(command).await, Err("tenant acne not found".to_owned()));
    let elsewhere = log.directory.path().join("missing/archive.jsonl");
    let refused = log.archive_to(&app, log.since, &elsewhere).await.expect_err("no such directory");
    assert!(refused.starts_with("FILE: ") && refused.contains("No such file or directory"), "{refused}");
    assert!(log.is_without_files());
    let partial = log.directory.path().join("archive.jsonl.partial");
    for (file, expected) in [
        (&partial, "another process writes this file, or was interrupted"),
        (&log.file(), "the file exists; choose another name"),
    ] {
        std::fs::write(file, "kept").expect("written");
        let refused = log.archive().await.expect_err("the file exists");
        assert!(refused.starts_with("FILE: ") && refused.contains(expected), "{refused}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "kept");
        std::fs::remove_file(file).expect("removed");
    }

    // Somebody with access to the store has removed an entry.
    app.store.purge_audit(&"acme".parse().unwrap(), 1).await.expect("purged");
    let refused = log.archive().await.expect_err("broken");
    let expected = "tenant acme: entry 1 is missing: found entry 2 in its place; a log that differs from what was written is \
                    not archived";
    assert_eq!(refused, expected);
    assert_eq!(numbers(&app).await, [2, 3, 4, 5]);
    assert!(log.is_without_files());
}

async fn log_is_not_cut_without_a_signed_record(app: App) {
    let log = Archived::of(&app).await;
    let cut: Option<Document> = match app.is_embedded() {
        true => None,
        false => {
            let entries = app.database().await.collection::<Document>("audit");
            entries.find_one(doc! { "tenant": "acme", "number": 4_i64 }).await.expect("a database")
        }
    };
    log.archive().await.expect("archived");
    let name = "audit-archive/acme";
    let record = app.store.find_setting(name).await.unwrap().expect("a record");
    let mut checkpoint = log.lines()[4]["checkpoint"].take();
    let event = serde_json::from_str::<Json>(&record).unwrap()["event"].take();
    for member in ["signedAt", "export"] {
        checkpoint.as_object_mut().unwrap().remove(member);
    }
    checkpoint["event"] = event;
    let further = record.replace("\"number\":4", "\"number\":5");
    let mut stored = record.clone();
    for forged in [further, checkpoint.to_string(), "{}".to_owned()] {
        assert!(app.store.replace_setting(name, Some(&stored), &forged).await.unwrap());
        let broken = verify(&app).await.expect_err("the log lacks its first entries");
        assert_eq!(broken, "acme: entry 1 is missing: found entry 5 in its place");
        stored = forged;
    }
    assert!(app.store.replace_setting(name, Some(&stored), &record).await.unwrap());
    assert_eq!(verify(&app).await, Ok(archived_line(2)));
    if let Some(cut) = cut {
        app.database().await.collection::<Document>("audit").insert_one(cut).await.expect("inserted");
        let broken = verify(&app).await.expect_err("an entry that was archived");
        assert_eq!(broken, "acme: entry 4 was archived and removed, but the log contains it");
    }
}

async fn interrupted_archive_is_finished(app: App) {
    let log = Archived::of(&app).await;
    let switch = Switch::default();
    let interrupted = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    for (call, last, left) in [("replace_setting", 4, vec![1, 2, 3, 4, 5]), ("purge_audit", 6, vec![7])] {
        let before = app.service.environment().now();
        let (file, failing) = (log.directory.path().join(call), switch.clone());
        switch.after(call, async move { failing.fail() });
        let failed = log.archive_to(&interrupted, before, &file).await.expect_err("the store fails");
        assert!(failed.starts_with("FILE has the archived entries, keep it; they may be removed"), "{failed}");
        switch.work();
        assert_eq!(numbers(&app).await, left, "{call}");
        let said = verify(&app).await.expect("intact");
        assert!(said.contains(&format!("acme: the entries up to {last} were archived")), "{said}");
        assert_eq!(lines(&export(&app).await)[0]["number"], last + 1, "it begins after the archive");

        app.command(Command::CheckpointAudit).await.expect("intact");
        assert_eq!(numbers(&app).await, [last + 1, last + 2, last + 3], "{call}");
        let rest = app.log_of("acme").await;
        assert_eq!(rest[2]["event"]["action"], "AUDIT_ARCHIVED");
        assert_eq!(rest[2]["event"]["count"], if last == 4 { 4 } else { 2 });
        app.command(Command::CheckpointAudit).await.expect("intact");
        assert_eq!(app.log_of("acme").await, rest, "once");
        verify_file(&app, &file).await;
        app.clock.advance(Duration::from_secs(60));
    }
}

async fn cursors_of_kept_entries_stay_valid_and_those_of_archived_ones_are_refused(app: App) {
    let log = Archived::of(&app).await;
    let listed = log.boss.query(AUDIT_LOG, json!({ "first": 5 })).await;
    let cursor = |place: usize| listed.data(&format!("auditLog.edges.{place}.cursor")).as_str().unwrap().to_owned();
    let (of_5, of_4, of_3) = (cursor(0), cursor(1), cursor(2));
    log.archive().await.expect("archived");
    let ask = async |variables: Json| log.boss.query(AUDIT_LOG, variables).await;
    let newer = |cursor: &str| json!({ "before": cursor, "last": 5 });
    assert_eq!(ask(newer(&of_5)).await.data("auditLog.nodes").as_array().unwrap().len(), 1);
    assert_eq!(ask(newer(&of_4)).await.data("auditLog.nodes").as_array().unwrap().len(), 2, "nothing is missed");
    assert_eq!(*ask(json!({ "after": of_4, "first": 5 })).await.data("auditLog.nodes"), json!([]));
    assert_eq!(ask(newer(&of_3)).await.code(), Some("CURSOR_INVALID"));

    let follow = async |after: Option<AuditHead>| {
        app.command(Command::FollowAudit { tenant: "acme".parse().unwrap(), after, ends: true }).await
    };
    let entry = |line: &Json| AuditHead {
        number: line["number"].as_u64().unwrap(),
        hash: line["hash"].as_str().unwrap().to_owned().try_into().unwrap(),
    };
    let (archive, last) = (log.lines(), log.last());
    let refused = follow(Some(entry(&archive[2]))).await.expect_err("archived");
    assert!(refused.contains("does not contain entry 3 as it was followed before: it was archived"), "{refused}");
    for after in [Some(last), None] {
        let followed = lines(&follow(after).await.expect("followed"));
        let first = &followed[0];
        assert_eq!((&first["number"], &first["previousNumber"]), (&json!(5), &json!(4)));
        assert_eq!(first["previousHash"], archive[3]["hash"]);
    }
}

async fn checkpoints_of_archived_entries_are_not_missed(app: App) {
    let log = Archived::of(&app).await;
    let checkpoints = async |app: &App| {
        let text = app.command(Command::CheckpointAudit).await.expect("intact logs");
        serde_json::from_value::<keymark::domain::checkpoints::Checkpoint>(lines(&text)[0]["checkpoint"].take())
            .unwrap()
    };
    let signed = checkpoints(&app).await;
    assert_eq!(signed.number, 5);
    app.clock.advance(Duration::from_secs(60));
    log.boss.create_system("Four").await;
    app.clock.advance(Duration::from_secs(60));
    log.archive_to(&app, app.service.environment().now(), &log.file()).await.expect("archived");
    assert_eq!(numbers(&app).await, [6, 7]);
    let is_lost = async |checkpoint| {
        let settings = Settings { audit_checkpoints: vec![checkpoint], ..Setup::default().settings };
        let instance = app.instance_with(2, Setup { settings, ..Setup::default() }).await;
        !instance.service.find_lost_checkpoints().await.expect("a store that responds").is_empty()
    };
    assert!(!is_lost(signed.clone()).await, "its entry is the last one of the archive");
    let other = if app.is_embedded() { App::embedded().await } else { App::mongodb().await };
    Archived::of(&other).await;
    other.clock.advance(Duration::from_secs(1));
    let foreign = checkpoints(&other).await;
    assert_eq!((foreign.number, foreign.hash == signed.hash), (5, false));
    assert!(is_lost(foreign).await, "another log");
}

async fn archived_log_is_replayed_after_a_restore(app: App) {
    let log = Archived::of(&app).await;
    let system = log.boss.create_system("Billing").await;
    let key = log.boss.generate_key(&system.id).await.api_key;
    let early = app.restored(2).await;
    log.archive().await.expect("archived");
    let late = app.restored(3).await;
    log.boss.revoke_key(&system.id).await;
    let file = log.directory.path().join("export.jsonl");
    std::fs::write(&file, export(&app).await).expect("written");
    for restored in [&early, &late] {
        assert_eq!(restored.verifier().code(&key).await, "VALID", "that is what a backup brings back");
        let said = restored.command(Command::ReplayAudit { file: file.clone() }).await.expect("replayed");
        assert!(said.contains("revoked key"), "{said}");
        assert_eq!(restored.verifier().code(&key).await, "REVOKED");
        verify(restored).await.expect("intact");
    }
    let said = late.command(Command::ReplayAudit { file: log.file() }).await.expect("an older export");
    assert!(said.contains("acme: nothing left to replay up to entry 4"), "{said}");
}

async fn archives_and_then_an_export_are_replayed_after_a_restore(app: App) {
    let log = Archived::of(&app).await;
    let mut keys = Vec::new();
    let mut systems = Vec::new();
    for name in ["First", "Second", "Third"] {
        let system = log.boss.create_system(name).await;
        keys.push(log.boss.generate_key(&system.id).await.api_key);
        systems.push(system.id);
    }
    let restored = app.restored(2).await;
    let verdicts = async || {
        let mut verdicts = Vec::new();
        for key in &keys {
            verdicts.push(restored.verifier().code(key).await);
        }
        verdicts
    };
    let mut files = Vec::new();
    for (at, system) in systems.iter().enumerate() {
        log.boss.revoke_key(system).await;
        app.clock.advance(Duration::from_secs(60));
        let file = log.directory.path().join(at.to_string());
        if at < 2 {
            log.boss.create_system(&format!("After {at}")).await;
            app.clock.advance(Duration::from_secs(60));
            log.archive_to(&app, app.service.environment().now(), &file).await.expect("archived");
        } else {
            std::fs::write(&file, export(&app).await).expect("written");
        }
        files.push(file);
    }
    let replay = async |file: &Path| restored.command(Command::ReplayAudit { file: file.to_owned() }).await;
    let refused = replay(&files[2]).await.expect_err("it begins after the archives");
    assert!(refused.contains("it begins too late (replay the archives from before it first)"), "{refused}");
    let mut expected = ["VALID"; 3];
    for (at, file) in files.iter().enumerate() {
        assert_eq!(verdicts().await, expected);
        let said = replay(file).await.expect("replayed");
        assert!(said.contains("revoked key"), "{said}");
        expected[at] = "REVOKED";
    }
    assert_eq!(verdicts().await, expected);
    for file in &files {
        let said = replay(file).await.expect("replayed");
        assert!(said.contains("nothing left to replay"), "{said}");
    }
    verify(&restored).await.expect("intact");
}

async fn archive_of_another_history_removes_nothing(app: App) {
    let log = Archived::of(&app).await;
    let restored = app.restored(2).await;
    log.boss.create_system("Four").await;
    app.clock.advance(Duration::from_secs(60));
    log.boss.create_system("Five").await;
    log.archive_to(&app, app.service.environment().now(), &log.file()).await.expect("archived");
    restored.add_operator("acme", "alice", &ALL).await;
    restored.add_operator("acme", "bob", &ALL).await;
    let before = numbers(&restored).await;
    let name = "audit-archive/acme";
    let record = app.store.find_setting(name).await.unwrap().expect("a record");
    assert!(record.contains("\"number\":6"), "{record}");
    assert!(restored.store.replace_setting(name, None, &record).await.unwrap());
    // It cannot sign that end.
    restored.command(Command::CheckpointAudit).await.expect_err("another log");
    assert_eq!((before.len(), numbers(&restored).await), (7, before));
}

async fn archive_during_another_one_or_while_the_log_is_followed_leaves_no_gap(app: App) {
    let log = Archived::of(&app).await;
    let tenant: TenantId = "acme".parse().unwrap();
    let origin = app.service.command_line_origin(None);
    let second = app.service.follow_audit(&origin, tenant.clone(), None).await;
    let mut follower = second.unwrap_or_else(|error| panic!("{error}"));

    let switch = Switch::default();
    let another = app.instance_with(2, Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let (service, first, since) = (app.service.clone(), log.file(), log.since);
    switch.after("find_audit_hashes", async move {
        service.archive_audit(None, &tenant, since, &first).await.expect("archived").expect("entries");
    });
    let file = log.directory.path().join("late.jsonl");
    let refused = log.archive_to(&another, log.since, &file).await;
    assert_eq!(refused, Err("another process has archived this log meanwhile; run the command again".to_owned()));
    assert!(!file.exists());
    assert_eq!(verify(&app).await.map(|said| said.lines().count()), Ok(2));
    let gap = follower.read().await.expect_err("archived before it was read");
    assert!(gap.to_string().contains("does not contain entry 0 as it was followed before: it was archived"), "{gap}");
}

async fn records_of_a_previous_secret_are_signed_anew(app: App) {
    const OTHER_SECRET: &str = "another root secret, which replaces the first";
    let log = Archived::of(&app).await;
    log.archive().await.expect("archived");
    let intact = verify(&app).await.expect("intact");
    let replaced = Setup { secret: OTHER_SECRET, previous_secrets: &[SECRET], ..Setup::default() };
    let replaced = app.instance_with(3, replaced).await;
    assert_eq!(verify(&replaced).await.as_ref(), Ok(&intact));
    replaced.command(Command::CheckpointAudit).await.expect("intact");
    let without = app.instance_with(4, Setup { secret: OTHER_SECRET, ..Setup::default() }).await;
    assert_eq!(verify(&without).await.as_ref(), Ok(&intact));
}

#[tokio::test]
async fn archived_log_moves_to_another_store() {
    const PASSWORD: &str = "a passphrase for the tests";
    let (data, options) = (directory(), mongod::fresh_database().await);
    let server = Server::start_with(data.path(), &[("KEYMARK_INITIAL_ADMIN_PASSWORD", PASSWORD)], &[]).await;
    let token = server.sign_in("admin", PASSWORD).await;
    let create = "mutation { createSystem(name: \"Billing\") { system { id } } }";
    server.graphql(Some(&token), create, json!({})).await;
    let file = data.path().join("archive.jsonl");
    let (on_embedded, now) = ([("KEYMARK_DATA_DIR", data.path().to_str().unwrap())], Environment::system().now());
    for (before, expected) in [("today", "not a date such as 2026-01-31"), ("2999-01-31", "the date is in the future")]
    {
        let arguments = ["audit", "archive", "--before", before, "--to", file.to_str().unwrap()];
        let (_, _, said) = run(&on_embedded, &arguments).await;
        assert!(said.contains(expected), "{said}");
    }
    let arguments = ["audit", "archive", "--before", &now.to_string(), "--to", file.to_str().unwrap()];
    let (code, said, log) = run(&on_embedded, &arguments).await;
    assert_eq!(code, 0, "{log}");
    assert!(said.ends_with("archive.jsonl: 2 entries of default, up to entry 2\n"), "{said}");
    server.stop().await;

    let to_mongodb = ["migrate", "--to-mongodb", options.uri.as_str(), "--to-database", options.database.as_str()];
    let (code, _, log) = run(&on_embedded, &to_mongodb).await;
    assert_eq!(code, 0, "{log}");
    let secret = data.path().join("secret");
    let on_mongodb = [
        ("KEYMARK_MONGODB_URI", options.uri.as_str()),
        ("KEYMARK_MONGODB_DATABASE", options.database.as_str()),
        ("KEYMARK_SECRET_FILE", secret.to_str().unwrap()),
    ];
    for variables in [&on_embedded[..], &on_mongodb] {
        let (code, said, log) = run(variables, &["audit", "verify"]).await;
        assert_eq!(code, 0, "{log}");
        assert!(said.contains("default: the entries up to 2 were archived at"), "{said}");
    }
}
