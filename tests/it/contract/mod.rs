//! What every [`Store`] guarantees, as cases that know a store by its trait alone.
//!
//! A backend plugs in with a [`Factory`] and one line, `contract_suite!(module, factory)`; every case then is a test
//! of its own, `module::area::case`. [`memory`] is the plain model that shows the suite itself to be right.

pub mod audit;
pub mod feed;
pub mod fixtures;
pub mod keys;
pub mod leases;
pub mod memory;
pub mod model;
pub mod operators;
pub mod pages;
pub mod reopening;
pub mod scan;
pub mod settings;
pub mod systems;
pub mod tenants;
pub mod throttle;

use std::sync::Arc;

use async_trait::async_trait;
use keymark::domain::changes::Position;
use keymark::store::Store;

/// Opens one backend's stores. Every case has a factory of its own and opens one store with it.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A fresh store, which holds nothing.
    async fn open(&self) -> Arc<dyn Store>;

    /// The opened store once more, for a second instance at the same time; `None` where only one process can have it.
    async fn beside(&self) -> Option<Arc<dyn Store>>;

    /// The opened store as the next process finds it; where only one can have it, as after a crash: nothing was
    /// closed in order. `store` is done with.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;

    /// A position of the opened store's feed that its memory does not reach back to any more.
    async fn position_too_old(&self, store: &dyn Store) -> Position;
}

/// Makes a test of every case: `contract_suite!(module, factory)`, where the factory is an expression that is
/// evaluated for each case. A case that is missing here is dead code to the compiler.
macro_rules! contract_suite {
    ($suite:ident, $factory:expr) => {
        mod $suite {
            use super::*;

            $crate::contract::contract_suite!(@area systems, $factory, [
                a_created_system_is_found,
                systems_are_found_by_many_ids,
                a_change_replaces_the_whole_row,
                a_stale_revision_is_refused,
                a_row_that_is_there_is_not_inserted_again,
                a_missing_row_is_neither_replaced_nor_deleted,
                a_deleted_system_is_gone_and_its_log_stays,
                names_that_fold_alike_are_taken,
                a_system_may_change_the_case_of_its_name,
                a_freed_name_can_be_taken_at_once,
                another_tenant_may_have_the_name,
                a_batch_whose_last_write_conflicts_changes_nothing,
                one_batch_does_not_take_a_name_twice,
                a_requirement_holds_or_the_batch_is_refused,
                of_50_creates_of_one_name_at_once_one_succeeds,
                of_20_renames_to_one_name_at_once_one_succeeds,
                of_20_renames_of_one_revision_at_once_one_succeeds,
            ]);
            $crate::contract::contract_suite!(@area keys, $factory, [
                a_key_is_found_by_one_of_several_digests,
                of_50_generates_at_once_one_succeeds,
                a_digest_is_used_once,
                a_renamed_system_renames_its_key,
                a_revoked_key_is_remembered_and_a_new_one_can_be_made,
                a_deleted_systems_key_is_remembered,
                keys_revoked_before_the_time_are_purged,
                a_purge_is_in_the_feed_and_not_in_the_log,
            ]);
            $crate::contract::contract_suite!(@area operators, $factory, [
                an_operator_is_found_by_id_and_by_username,
                usernames_are_unique_across_tenants,
                a_freed_username_can_be_taken_by_another_tenant,
                operators_are_listed_by_username,
                a_changed_operator_is_replaced_whole,
                of_50_additions_of_one_username_at_once_one_succeeds,
                a_session_is_found_until_it_is_forgotten,
                sessions_go_with_their_operator,
                ended_sessions_are_listed_until_they_are_purged,
            ]);
            $crate::contract::contract_suite!(@area audit, $factory, [
                an_empty_log_ends_at_zero,
                entries_read_back_as_they_were_returned,
                logs_stay_gapless_and_chained_under_50_writers,
                the_log_is_listed_newest_first,
                each_member_of_a_filter_narrows,
                filtered_logs_page_from_both_ends,
                entries_after_a_number_come_oldest_first,
                an_entry_is_found_by_its_id_in_its_tenant,
            ]);
            $crate::contract::contract_suite!(@area feed, $factory, [
                a_feed_from_now_leaves_out_what_was_before,
                a_change_carries_whole_rows_and_its_entry,
                a_feed_resumes_after_each_position,
                followers_do_not_disturb_each_other,
                a_refused_batch_leaves_no_trace,
                what_is_no_batch_leaves_no_trace,
                a_feed_shows_commits_at_once_in_each_tenants_order,
                a_feed_resumes_in_the_midst_of_commits,
                every_instance_feeds_what_any_committed,
                a_position_that_is_too_old_is_refused,
            ]);
            $crate::contract::contract_suite!(@area leases, $factory, [
                a_lease_is_listed_as_it_was_put_last,
                a_lease_that_was_put_again_is_not_deleted,
                of_20_deletions_of_a_lease_at_once_one_succeeds,
                each_lease_is_a_change_of_its_own_without_an_entry,
                a_lease_that_is_put_after_a_commit_comes_after_it,
                times_grow_along_the_feed_and_are_the_same_to_all,
                no_batch_writes_a_lease,
            ]);
            $crate::contract::contract_suite!(@area scan, $factory, [
                a_scan_gives_the_keys_operators_and_sessions_of_all_tenants,
                a_scan_gives_many_rows,
                a_scan_sees_what_was_answered_before_it,
                a_scan_amid_writes_misses_nothing_that_was_there,
                a_scan_of_systems_gives_one_tenants_and_where_its_log_ends,
                a_scan_of_systems_sees_what_was_answered_before_it,
            ]);
            $crate::contract::contract_suite!(@area pages, $factory, [
                every_order_pages_from_both_ends,
                names_sort_by_folded_code_points,
                pages_stay_right_while_rows_come_and_go,
                a_place_serves_when_its_row_is_gone,
                a_stretch_may_have_two_borders,
                a_search_is_text_and_never_a_pattern,
                a_search_pages_and_counts_like_the_whole_list,
            ]);
            $crate::contract::contract_suite!(@area tenants, $factory, [
                nothing_of_a_tenant_is_read_by_another,
                nothing_of_a_tenant_is_changed_by_another,
                tenants_are_listed_from_their_first_entry,
            ]);
            $crate::contract::contract_suite!(@area throttle, $factory, [
                a_bucket_gives_its_burst_and_then_one_an_interval,
                of_50_callers_at_once_exactly_the_burst_pass,
                a_returned_token_can_be_taken_again,
                buckets_do_not_share,
                a_purge_forgets_full_buckets_alone,
            ]);
            $crate::contract::contract_suite!(@area settings, $factory, [
                the_store_answers,
                a_setting_is_replaced_only_as_expected,
                of_20_replacements_at_once_one_wins,
                a_marker_is_set_once,
                of_20_batches_with_one_marker_at_once_one_succeeds,
            ]);
            $crate::contract::contract_suite!(@area reopening, $factory, [
                what_was_acknowledged_is_there,
                the_log_and_its_conditions_go_on,
                an_old_position_resumes,
            ]);
            $crate::contract::contract_suite!(@area model, $factory, [the_store_does_what_the_plain_model_does]);
        }
    };
    (@area $area:ident, $factory:expr, [$($case:ident),* $(,)?]) => {
        mod $area {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let factory = $factory;
                    $crate::contract::fixtures::within_a_minute($crate::contract::$area::$case(&factory)).await;
                }
            )*
        }
    };
}
pub(crate) use contract_suite;
