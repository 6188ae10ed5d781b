//! What a controller leans on in an API server, held by one suite against the real one and the one in memory (`world::apiserver`).
//!
//! The half against the real one needs a world: `cargo world test -E 'binary(apiserver)'`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

mod lists;
mod objects;
mod server;
mod watches;
mod writes;

/// Each check is one test per server, so that a failure names both.
macro_rules! conformance {
    ($($module:ident::$check:ident,)*) => {
        mod fake {
            $(#[tokio::test]
            async fn $check() {
                crate::$module::$check(&crate::server::Server::in_memory()).await;
            })*
        }
        mod real {
            $(#[tokio::test]
            async fn $check() {
                crate::$module::$check(&crate::server::Server::real(stringify!($check)).await).await;
            })*
        }
    };
}

conformance! {
    objects::creation_fills_in_what_the_server_alone_knows,
    objects::a_name_is_generated,
    objects::what_exists_is_not_created_again,
    objects::what_is_missing_is_not_found,
    objects::a_deletion_waits_for_finalizers,
    objects::a_deletion_without_finalizers_is_done_at_once,
    objects::no_finalizer_is_added_to_what_is_being_deleted,
    objects::preconditions_guard_a_deletion,
    objects::a_namespace_goes_with_what_it_holds,
    writes::a_stale_version_is_a_conflict,
    writes::a_write_without_a_version_is_unconditional,
    writes::only_a_new_spec_is_a_new_generation,
    writes::a_write_that_changes_nothing_makes_no_version,
    writes::status_and_the_rest_are_written_apart,
    writes::null_in_a_merge_patch_removes,
    writes::applied_fields_go_when_they_are_no_longer_applied,
    writes::another_managers_field_is_a_conflict_unless_forced,
    writes::an_applied_status_is_locked_by_its_version,
    writes::an_applied_status_keeps_what_it_names_and_no_more,
    writes::apply_creates_what_is_missing,
    writes::the_uid_is_a_lock,
    writes::a_lease_is_compared_and_swapped,
    writes::a_missing_status_cannot_be_written,
    lists::a_list_has_a_version_to_watch_from,
    lists::pages_show_one_moment,
    lists::one_object_is_selected_by_name,
    lists::secrets_are_kept_as_they_are,
    watches::a_watch_tells_what_happens_from_a_version_on,
    watches::a_watch_without_a_version_begins_with_what_is_there,
    watches::initial_events_end_with_a_bookmark,
    watches::a_watch_ends_after_its_time_with_a_bookmark_before,
    watches::a_watch_of_one_object_tells_of_no_other,
    watches::what_is_forgotten_is_gone,
    watches::a_deletion_is_told_with_its_own_version,
}
