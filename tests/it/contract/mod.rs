//! The guarantees of every [`Store`], as cases that use a store only through its trait.
//!
//! A backend runs the suite with a [`Factory`] and one line, `contract_suite!(module, factory)`; each case is a test,
//! `module::area::case`. [`memory`] is a simple model by which the suite itself is tested.

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
pub mod tokens;
pub mod usage;

use std::sync::Arc;

use async_trait::async_trait;
use keymark::domain::changes::Position;
use keymark::store::Store;

/// Opens stores of one backend. Each case opens one store with a factory of its own.
#[async_trait]
pub trait Factory: Send + Sync {
    /// Opens a new, empty store.
    async fn open(&self) -> Arc<dyn Store>;

    /// Opens the store for a second, concurrent instance; `None` if only one process can have it open.
    async fn beside(&self) -> Option<Arc<dyn Store>>;

    /// Reopens the store as the next process would find it. If only one process can have it open, as after a crash,
    /// without an orderly close.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;

    /// A position after which the feed of the opened store no longer holds all changes.
    async fn position_too_old(&self, store: &dyn Store) -> Position;
}

/// Defines a test for every case: `contract_suite!(module, factory)`, where the expression `factory` is evaluated for
/// each case. The compiler reports a case that is missing here as dead code.
macro_rules! contract_suite {
    ($suite:ident, $factory:expr) => {
        mod $suite {
            use super::*;

            $crate::contract::contract_suite!(@area systems, $factory, [
                created_system_is_found,
                systems_are_found_by_many_ids,
                replace_writes_the_whole_row,
                stale_revision_is_refused,
                existing_row_is_not_inserted_again,
                missing_row_is_neither_replaced_nor_deleted,
                deleted_system_keeps_its_log,
                names_with_equal_folding_are_taken,
                system_may_change_the_case_of_its_name,
                freed_name_is_available_immediately,
                another_tenant_may_use_the_name,
                batch_with_a_conflict_in_its_last_write_changes_nothing,
                batch_does_not_take_a_name_twice,
                external_id_is_found_exactly_and_within_its_tenant,
                external_id_of_another_system_is_taken_until_it_is_free,
                batch_does_not_take_an_external_id_twice,
                one_of_20_concurrent_settings_of_an_external_id_succeeds,
                unmet_requirement_refuses_the_batch,
                one_of_50_concurrent_creates_of_a_name_succeeds,
                one_of_20_concurrent_renames_to_a_name_succeeds,
                one_of_20_concurrent_renames_of_a_revision_succeeds,
            ]);
            $crate::contract::contract_suite!(@area keys, $factory, [
                key_is_found_by_one_of_several_digests,
                one_of_50_concurrent_generates_succeeds,
                digest_is_used_once,
                renamed_system_renames_its_key,
                key_has_the_external_id_of_its_system,
                revoked_key_is_kept_and_replaced_by_a_new_one,
                key_of_a_deleted_system_is_kept,
                keys_revoked_before_the_given_time_are_purged,
                purge_is_in_the_feed_but_not_in_the_log,
            ]);
            $crate::contract::contract_suite!(@area operators, $factory, [
                operator_is_found_by_id_and_by_username,
                usernames_are_unique_across_tenants,
                freed_username_is_available_to_another_tenant,
                operators_are_listed_by_username,
                replace_writes_the_whole_operator,
                the_end_of_a_first_password_is_stored_until_the_password_is_replaced,
                one_of_50_concurrent_additions_of_a_username_succeeds,
                session_is_found_until_it_is_deleted,
                sessions_are_deleted_with_their_operator,
                ended_sessions_are_listed_until_they_are_purged,
                oldest_sessions_of_a_password_are_listed_and_those_of_earlier_ones_purged,
            ]);
            $crate::contract::contract_suite!(@area audit, $factory, [
                empty_log_has_head_zero,
                entries_are_stored_as_returned,
                log_is_gapless_and_chained_with_50_writers,
                log_is_listed_newest_first,
                each_member_of_a_filter_narrows_the_list,
                filtered_log_pages_from_both_ends,
                entries_after_a_number_are_listed_oldest_first,
                entry_is_found_by_its_id_within_its_tenant,
                hashes_are_found_by_number_within_the_tenant,
                oldest_entries_are_purged_from_every_list,
            ]);
            $crate::contract::contract_suite!(@area feed, $factory, [
                feed_from_now_omits_earlier_changes,
                change_carries_whole_rows_and_its_entry,
                feed_resumes_after_each_position,
                followers_are_independent,
                refused_batch_is_not_in_the_feed,
                settings_and_tokens_are_not_in_the_feed,
                feed_keeps_each_tenants_order_of_concurrent_commits,
                feed_resumes_during_concurrent_commits,
                every_instance_receives_the_commits_of_all,
                position_that_is_too_old_is_refused,
            ]);
            $crate::contract::contract_suite!(@area leases, $factory, [
                lease_is_listed_as_last_put,
                lease_is_listed_as_of_any_position_where_the_feed_has_delivered_it,
                renewed_lease_is_not_deleted,
                one_of_20_concurrent_deletions_of_a_lease_succeeds,
                each_lease_is_a_separate_change_without_an_entry,
                lease_put_after_a_commit_follows_it_in_the_feed,
                times_increase_along_the_feed_and_are_equal_for_all_followers,
                batch_cannot_write_a_lease,
            ]);
            $crate::contract::contract_suite!(@area scan, $factory, [
                scan_returns_keys_operators_and_sessions_of_all_tenants,
                scan_returns_many_rows,
                scan_sees_earlier_commits,
                scan_during_writes_misses_no_existing_row,
                scan_of_systems_returns_one_tenants_systems_and_log_head,
                scan_of_systems_sees_earlier_commits,
            ]);
            $crate::contract::contract_suite!(@area pages, $factory, [
                every_order_pages_from_both_ends,
                names_sort_by_folded_code_points,
                pages_stay_consistent_while_rows_change,
                position_of_a_deleted_row_is_valid,
                range_may_have_two_bounds,
                search_is_text_and_never_a_pattern,
                search_finds_names_descriptions_and_external_ids,
                search_pages_and_counts_like_the_whole_list,
            ]);
            $crate::contract::contract_suite!(@area tenants, $factory, [
                tenant_cannot_read_data_of_another,
                tenant_cannot_change_data_of_another,
                tenants_are_listed_from_their_first_entry,
                rows_of_tenants_are_found_and_listed,
                tenant_with_systems_is_not_deleted,
                system_requires_a_tenant_that_exists,
            ]);
            $crate::contract::contract_suite!(@area tokens, $factory, [
                token_is_found_by_the_digest_of_each_secret,
                tokens_of_a_tenant_are_listed_in_the_order_of_their_creation,
                names_of_tokens_are_unique_by_kind_and_tenant,
                one_of_20_concurrent_creations_of_a_token_succeeds,
                deleted_token_is_not_found,
            ]);
            $crate::contract::contract_suite!(@area throttle, $factory, [
                bucket_allows_its_burst_and_then_one_token_per_interval,
                exactly_the_burst_of_50_concurrent_callers_passes,
                returned_token_can_be_taken_again,
                arrival_of_a_bucket_can_be_read_and_raised,
                buckets_are_independent,
                purge_removes_only_full_buckets,
            ]);
            $crate::contract::contract_suite!(@area settings, $factory, [
                ping_succeeds,
                setting_is_replaced_only_if_as_expected,
                settings_are_listed_by_their_prefix,
                one_of_20_concurrent_replacements_succeeds,
                marker_is_set_once,
                one_of_20_concurrent_batches_with_a_marker_succeeds,
            ]);
            $crate::contract::contract_suite!(@area usage, $factory, [
                uses_add_up_by_hour_day_and_key,
                days_of_400_days_are_read,
                repeated_flush_is_added_once,
                concurrent_flushes_about_the_same_systems_all_count,
                use_of_another_tenant_is_not_read,
                last_uses_are_listed_by_the_time_of_their_flush,
                use_is_not_in_the_feed,
                use_past_its_retention_is_purged,
                keys_presented_last_are_kept_of_a_system_with_many,
            ]);
            $crate::contract::contract_suite!(@area reopening, $factory, [
                acknowledged_writes_survive,
                log_and_conditions_continue,
                feed_resumes_from_an_earlier_position,
            ]);
            $crate::contract::contract_suite!(@area model, $factory, [store_behaves_like_the_model]);
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
