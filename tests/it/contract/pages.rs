//! Lists of systems: keyset pages, consistent while rows change, and searches for plain text.

use keymark::domain::ids::TenantId;
use keymark::domain::system_names::Search;
use keymark::domain::systems::{Direction, SortValue, System, SystemOrder, SystemOrderField, SystemSortKey};
use keymark::store::{Page, PageEnd, PageRequest, Store};

use super::Factory;
use super::fixtures::*;
use super::systems::created;

const ORDERS: [SystemOrder; 6] = [
    SystemOrder { field: SystemOrderField::Name, direction: Direction::Ascending },
    SystemOrder { field: SystemOrderField::Name, direction: Direction::Descending },
    SystemOrder { field: SystemOrderField::UpdatedAt, direction: Direction::Ascending },
    SystemOrder { field: SystemOrderField::UpdatedAt, direction: Direction::Descending },
    SystemOrder { field: SystemOrderField::CreatedAt, direction: Direction::Ascending },
    SystemOrder { field: SystemOrderField::CreatedAt, direction: Direction::Descending },
];

pub async fn every_order_pages_from_both_ends(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let all = varied_systems(&*store, &mut acme).await;
    let mut bolt = tenant("bolt");
    created(&*store, &mut bolt, "Of another tenant").await;

    for order in ORDERS {
        let expected = in_order(&all, order);
        for limit in [1, 2, 5, all.len() - 1, all.len(), all.len() + 1] {
            for from in [PageEnd::First, PageEnd::Last] {
                let mut walk = Walk::new(order, limit, from);
                while walk.goes_on() {
                    walk.step(&*store, &acme.id, &Search::All).await;
                    assert_eq!(
                        walk.goes_on(),
                        walk.seen.len() < expected.len(),
                        "has more, {order:?} {limit} {from:?}"
                    );
                }
                assert_eq!(walk.seen, expected, "{order:?} {limit} {from:?}");
            }
        }
    }
}

pub async fn names_sort_by_folded_code_points(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let sorted = [
        "$dollar",
        "1st",
        "[bracket",
        "Äpfel",
        "apple",
        "ｂａｎａｎａ",
        "Zebra",
        "éclair",
        "ﬂag",
        "日本語",
        "ﾊﾛｰ!",
        "﨎﨎﨎",
        "🇫🇷🇫🇷🇫🇷",
    ];
    let mut by_code_point: Vec<_> = sorted.map(|name| (system_name(name).folded(), name)).to_vec();
    by_code_point.sort_unstable();
    for name in sorted {
        created(&*store, &mut acme, name).await;
    }

    let listed: Vec<_> = systems(&*store, &acme.id).await.iter().map(|system| system.name.to_string()).collect();

    assert_eq!(listed, by_code_point.iter().map(|(_, name)| *name).collect::<Vec<_>>());
    assert_eq!(listed[..4], ["$dollar", "1st", "[bracket", "apple"]);
    assert_eq!(listed[11..], ["﨎﨎﨎", "🇫🇷🇫🇷🇫🇷"], "U+FA0E sorts before U+1F1EB, unlike in UTF-16");
}

pub async fn pages_stay_consistent_while_rows_change(factory: &dyn Factory) {
    let store = factory.open().await;
    for (round, order) in ORDERS.into_iter().enumerate() {
        for from in [PageEnd::First, PageEnd::Last] {
            let mut acme = tenant(&format!("acme-{round}-{}", from == PageEnd::First));
            let mut staying = Vec::new();
            let mut leaving = Vec::new();
            for i in 0..20 {
                acme.now = START.plus(SECOND * (i / 2));
                staying.push(created(&*store, &mut acme, &format!("System {i:02}")).await);
                leaving.push(created(&*store, &mut acme, &format!("System {i:02} leaves")).await);
            }

            let mut walk = Walk::new(order, 3, from);
            let mut coming = 0;
            while walk.goes_on() {
                walk.step(&*store, &acme.id, &Search::All).await;
                // One system is deleted at each end and one inserted in the middle, until the walk has passed it.
                for gone in [leaving.pop(), (!leaving.is_empty()).then(|| leaving.remove(0))].into_iter().flatten() {
                    let delete = acme.delete(&gone);
                    commit(&*store, delete).await;
                }
                if coming < 20 {
                    acme.now = START.plus(SECOND * coming);
                    created(&*store, &mut acme, &format!("System {:02} comes", coming * 7 % 20)).await;
                    coming += 1;
                }
            }

            let stayed: Vec<_> = walk.seen.iter().filter(|system| staying.contains(system)).cloned().collect();
            assert_eq!(stayed, in_order(&staying, order), "{order:?} {from:?}");
            assert_eq!(walk.seen, in_order(&walk.seen, order), "{order:?} {from:?}");
            let mut ids: Vec<_> = walk.seen.iter().map(|system| system.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), walk.seen.len(), "no system is seen twice");
        }
    }
}

pub async fn position_of_a_deleted_row_is_valid(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let mut all = Vec::new();
    for i in 0..5 {
        acme.now = START.plus(SECOND * i);
        all.push(created(&*store, &mut acme, &format!("System {i}")).await);
    }
    let delete = acme.delete(&all[2]);
    commit(&*store, delete).await;

    for order in ORDERS {
        let place = Some(order.field.key_of(&all[2]));
        let expected = in_order(&all, order);
        let after = PageRequest { after: place.clone(), before: None, limit: 5, from: PageEnd::First };
        assert_eq!(list(&*store, &acme.id, order, &after).await.items, expected[3..], "{order:?}");
        let before = PageRequest { after: None, before: place, limit: 5, from: PageEnd::Last };
        assert_eq!(list(&*store, &acme.id, order, &before).await.items, expected[..2], "{order:?}");
    }
    let never_was = SystemSortKey { value: SortValue::Name("system 1z".to_owned()), id: all[0].id };
    let between = PageRequest { after: Some(never_was), before: None, limit: 5, from: PageEnd::First };
    assert_eq!(list(&*store, &acme.id, ORDERS[0], &between).await.items, all[3..]);
}

pub async fn range_may_have_two_bounds(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let all = varied_systems(&*store, &mut acme).await;

    for order in ORDERS {
        let list_of_all = in_order(&all, order);
        let place = |i: usize| Some(order.field.key_of(&list_of_all[i]));
        for ((after, before), stretch) in [
            ((2, 9), 3..9),
            ((0, list_of_all.len() - 1), 1..list_of_all.len() - 1),
            ((4, 5), 5..5),
            ((4, 4), 4..4),
            ((7, 3), 3..3),
        ] {
            let stretch = &list_of_all[stretch];
            for limit in [1, 2, 6, 100] {
                let more = stretch.len().saturating_sub(limit);
                for from in [PageEnd::First, PageEnd::Last] {
                    let request = PageRequest { after: place(after), before: place(before), limit, from };
                    let items = match from {
                        PageEnd::First => stretch[..stretch.len() - more].to_vec(),
                        PageEnd::Last => stretch[more..].to_vec(),
                    };
                    let page = list(&*store, &acme.id, order, &request).await;
                    assert_eq!(page, Page { items, has_more: more > 0 }, "{order:?} {request:?}");
                }
            }
        }
    }
}

pub async fn search_is_text_and_never_a_pattern(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    for name in [
        "(a+)+$ aaa",
        "$where 1",
        "100% sure",
        "ABC wide",
        "FILE shop",
        "aXbXc",
        "a.b.c",
        "back\\slash",
        "caf\u{e9}",
        "under_score",
        "{\"$ne\":1}",
        "日本語",
    ] {
        created(&*store, &mut acme, name).await;
    }
    let all = 12;

    for (typed, found) in [
        ("(a+)+$", vec!["(a+)+$ aaa"]),
        ("aaa", vec!["(a+)+$ aaa"]),
        ("$where", vec!["$where 1"]),
        ("$", vec!["$where 1", "(a+)+$ aaa", "{\"$ne\":1}"]),
        ("%", vec!["100% sure"]),
        ("_", vec!["under_score"]),
        ("a.b", vec!["a.b.c"]),
        (".", vec!["a.b.c"]),
        (".*", vec![]),
        ("^", vec![]),
        ("[a-z]", vec![]),
        ("a|b", vec![]),
        ("\\", vec!["back\\slash"]),
        ("\\Qa", vec![]),
        ("\\E", vec![]),
        ("(?i)abc", vec![]),
        ("/", vec![]),
        ("{\"$ne\":1}", vec!["{\"$ne\":1}"]),
        ("ａｂｃ ＷＩＤＥ", vec!["ABC wide"]),
        ("ﬁle ſHOP", vec!["FILE shop"]),
        ("CAFE\u{301}", vec!["caf\u{e9}"]),
        ("AXB", vec!["aXbXc"]),
        ("本", vec!["日本語"]),
        (" ", vec!["$where 1", "(a+)+$ aaa", "100% sure", "ABC wide", "FILE shop"]),
        ("a\0b", vec![]),
        ("no such name", vec![]),
    ] {
        assert_finds(&*store, &acme.id, &Search::parse(typed), &found).await;
    }
    for long in ["x".repeat(10_000), "x".repeat(2_000), "(a+)+".repeat(500), "🇫🇷".repeat(300)] {
        assert_finds(&*store, &acme.id, &Search::parse(&long), &[]).await;
        assert_finds(&*store, &acme.id, &Search::Containing(long), &[]).await;
    }
    assert_finds(&*store, &acme.id, &Search::Containing("a\0b".to_owned()), &[]).await;
    assert_finds(&*store, &acme.id, &Search::Nothing, &[]).await;
    assert_eq!(store.count_systems(&acme.id, &Search::parse("")).await.unwrap(), all);
    assert_eq!(systems(&*store, &acme.id).await.len() as u64, all);
}

pub async fn search_finds_names_descriptions_and_external_ids(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    for (name, description) in
        [("Billing", "Sends INVOICES\nand (a+)+$ reminders"), ("Invoices", "of CAFE\u{301}"), ("Payroll", "none")]
    {
        let system = created(&*store, &mut acme, name).await;
        let (_, batch) = acme.describe(&system, Some(description));
        commit(&*store, batch).await;
    }
    let plain = created(&*store, &mut acme, "Plain").await;
    let identified = created(&*store, &mut acme, "Identified").await;
    let (_, batch) = acme.identify(&identified, Some("Cus.Ⅳ (a)"));
    commit(&*store, batch).await;
    for (typed, found) in [
        ("invoices", vec!["Billing", "Invoices"]),
        ("café", vec!["Invoices"]),
        ("(A+)+$ rem", vec!["Billing"]),
        ("gsends", vec![]),
        ("a.+", vec![]),
        ("pla", vec!["Plain"]),
        ("CUS.iv (", vec!["Identified"]),
        ("cus_", vec![]),
    ] {
        for order in ORDERS {
            let page = store.list_systems(&acme.id, &Search::parse(typed), order, &whole()).await.unwrap();
            let mut names: Vec<_> = page.items.iter().map(|system| system.name.to_string()).collect();
            names.sort_unstable();
            assert_eq!(names, found, "{typed} {order:?}");
        }
        assert_finds(&*store, &acme.id, &Search::parse(typed), &found).await;
    }
    let (described, batch) = acme.describe(&plain, Some("also sends invoices"));
    commit(&*store, batch).await;
    assert_finds(&*store, &acme.id, &Search::parse("also"), &["Plain"]).await;
    let (_, batch) = acme.describe(&described, None);
    commit(&*store, batch).await;
    assert_finds(&*store, &acme.id, &Search::parse("also"), &[]).await;
}

pub async fn search_pages_and_counts_like_the_whole_list(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let all = varied_systems(&*store, &mut acme).await;

    for needle in ["1", "system 0", "SYSTEM", "nothing"] {
        let search = Search::parse(needle);
        let found: Vec<_> = all.iter().filter(|system| search.matches(&system.name.folded())).cloned().collect();
        assert_eq!(store.count_systems(&acme.id, &search).await.unwrap(), found.len() as u64, "{needle}");
        for order in ORDERS {
            let expected = in_order(&found, order);
            for from in [PageEnd::First, PageEnd::Last] {
                let mut walk = Walk::new(order, 2, from);
                while walk.goes_on() {
                    walk.step(&*store, &acme.id, &search).await;
                    assert_eq!(
                        walk.goes_on(),
                        walk.seen.len() < expected.len(),
                        "has more, {needle} {order:?} {from:?}"
                    );
                }
                assert_eq!(walk.seen, expected, "{needle} {order:?} {from:?}");
            }
        }
    }
}

/// Checks that exactly the systems with these names are listed, in this order, and counted.
async fn assert_finds(store: &dyn Store, tenant: &TenantId, search: &Search, names: &[&str]) {
    let page = store.list_systems(tenant, search, SystemOrder::default(), &whole()).await.unwrap();
    let found: Vec<_> = page.items.iter().map(|system| system.name.as_str()).collect();
    assert_eq!(found, names, "{search:?}");
    assert_eq!(store.count_systems(tenant, search).await.unwrap(), names.len() as u64, "{search:?}");
}

async fn list(
    store: &dyn Store,
    tenant: &TenantId,
    order: SystemOrder,
    request: &PageRequest<SystemSortKey>,
) -> Page<System> {
    store.list_systems(tenant, &Search::All, order, request).await.unwrap()
}

/// Creates twelve systems for which all orders differ, some with equal times.
async fn varied_systems(store: &dyn Store, acme: &mut Tenant) -> Vec<System> {
    let mut all = Vec::new();
    for i in 0..12 {
        acme.now = START.plus(SECOND * (i / 3));
        all.push(created(store, acme, &format!("System {:02}", i * 5 % 12)).await);
    }
    for i in [8, 3, 5] {
        acme.now = acme.now.plus(SECOND);
        let name = format!("{} renamed", all[i].name);
        let (renamed, batch) = acme.rename(&all[i], &name);
        commit(store, batch).await;
        all[i] = renamed;
    }
    all
}

/// The systems sorted by this order.
fn in_order(systems: &[System], order: SystemOrder) -> Vec<System> {
    let mut systems = systems.to_vec();
    systems.sort_by_key(|system| order.field.key_of(system));
    if order.direction == Direction::Descending {
        systems.reverse();
    }
    systems
}

/// Reads a list page by page, from one of its ends.
struct Walk {
    order: SystemOrder,
    request: PageRequest<SystemSortKey>,
    has_more: bool,
    /// The systems read so far, in the order of the list.
    seen: Vec<System>,
}

impl Walk {
    fn new(order: SystemOrder, limit: usize, from: PageEnd) -> Self {
        let request = PageRequest { after: None, before: None, limit, from };
        Self { order, request, has_more: true, seen: Vec::new() }
    }

    fn goes_on(&self) -> bool {
        self.has_more
    }

    async fn step(&mut self, store: &dyn Store, tenant: &TenantId, search: &Search) {
        let page = store.list_systems(tenant, search, self.order, &self.request).await.unwrap();
        assert!(page.items.len() <= self.request.limit && (!page.has_more || page.items.len() == self.request.limit));
        match self.request.from {
            PageEnd::First => self.seen.extend(page.items),
            PageEnd::Last => drop(self.seen.splice(0..0, page.items)),
        }
        let place = |system: &System| self.order.field.key_of(system);
        match self.request.from {
            PageEnd::First => self.request.after = self.seen.last().map(place),
            PageEnd::Last => self.request.before = self.seen.first().map(place),
        }
        self.has_more = page.has_more;
    }
}
