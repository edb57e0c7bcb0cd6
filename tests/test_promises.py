"""Which tests hold which promise: the invariants of the house, and what stands against each threat."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.named import is_there

EXPLORED: Final = "tests/simulation/test_explorer.py::test_every_promise_holds_in_every_schedule"
RACED: Final = (
    "tests/simulation/test_approval_races.py"
    "::test_each_request_is_decided_once_and_nothing_is_done_without_its_approval"
)
KILLED: Final = "tests/e2e/test_kill.py::test_kills_lose_nothing_that_was_acknowledged_and_show_each_event_once"
APPROVALS: Final = "tests/supervisor/test_approvals.py"

INVARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "I1 durable": (
        EXPLORED, KILLED,
        "tests/supervisor/store/test_power_loss.py::test_a_power_cut_loses_nothing_that_was_acknowledged",
        "tests/supervisor/store/test_kill.py::test_a_killed_process_leaves_everything_it_acknowledged",
        "tests/supervisor/store/test_sqlite.py::test_a_disk_that_breaks_stops_the_store_and_takes_nothing_back",
    ),
    "I2 effect once": (
        EXPLORED, KILLED,
        "tests/supervisor/test_commands.py::test_repeats_at_the_same_time_are_one_command",
        "tests/supervisor/test_recovery.py::test_a_key_still_replays_after_a_restart",
    ),
    "I3 no phantom": (
        EXPLORED, "tests/supervisor/test_commands.py::test_a_client_that_vanishes_leaves_no_row_or_a_whole_row",
    ),
    "I4 order": (
        EXPLORED,
        "tests/supervisor/test_commands.py::test_commands_take_effect_in_the_order_of_their_acceptance",
        "tests/actors/test_runs.py::test_runs_are_done_one_at_a_time_in_the_order_of_their_acceptance",
        "tests/supervisor/test_recovery.py::test_queued_runs_keep_their_order_priority_and_front",
    ),
    "I5 gapless": (
        EXPLORED,
        "tests/supervisor/store/test_contract.py::test_numbers_are_dense_for_the_journal_and_for_each_engine_also_over_a_restart",
        "tests/supervisor/store/test_contract.py::test_numbers_go_on_after_everything_was_trimmed",
    ),
    "I6 legal": (
        EXPLORED,
        "tests/protocol/test_states.py::test_an_empty_cell_raises_and_names_the_move",
        "tests/protocol/test_states.py::test_nothing_leads_out_of_disposed",
    ),
    "I7 fold": (
        EXPLORED,
        "tests/supervisor/test_recovery.py::test_a_past_state_is_the_fold_up_to_there",
        "tests/protocol/test_fold.py::test_a_snapshot_and_what_follows_is_the_whole_fold",
    ),
    "I8 rising": (EXPLORED, KILLED),
    "I9 nothing missing": (
        EXPLORED, KILLED,
        "tests/supervisor/test_streams.py::test_joined_connections_give_each_event_once_and_in_order",
        "tests/supervisor/test_streams.py::test_on_sqlite_a_slow_reader_misses_nothing",
    ),
    "I10 nothing taken back": (
        KILLED, "tests/supervisor/test_streams.py::test_a_stream_goes_on_over_a_restart",
    ),
    "I11 pause": (
        EXPLORED,
        "tests/actors/test_pause.py::test_nothing_is_started_between_paused_and_resumed",
        "tests/actors/test_pause.py::test_a_pause_and_its_holds_survive_the_house",
        "tests/e2e/test_trees.py::test_a_shell_run_is_paused_in_the_middle_and_goes_on_at_the_same_point",
    ),
    "I12 bounded": (
        EXPLORED,
        "tests/supervisor/test_commands.py::test_a_full_mailbox_refuses_work_and_never_control",
        "tests/supervisor/test_commands.py::test_too_much_waiting_for_the_disk_turns_work_away_and_no_control",
        "tests/supervisor/test_streams.py::test_a_reader_too_slow_for_transient_rows_is_told_how_many",
        "tests/web/test_server.py::test_connections_beyond_the_cap_are_told_to_come_back",
    ),
    "I13 dispose": (
        EXPLORED,
        "tests/e2e/test_trees.py::test_50_stubborn_trees_are_disposed_of_without_a_survivor",
        "tests/actors/test_ending.py::test_a_disposed_engine_refuses_commands_and_repeats_its_outcome",
        "tests/actors/test_ending.py::test_one_engine_that_cannot_be_disposed_spares_no_other",
    ),
    "I14 intensity": (
        EXPLORED,
        "tests/protocol/test_decide.py::test_no_window_holds_more_than_the_most_restarts",
        "tests/actors/test_restart.py::test_a_restart_too_many_fails_the_engine_and_keeps_its_queue",
    ),
    "I15 isolation": (EXPLORED, "tests/actors/test_restart.py::test_a_crash_of_one_engine_changes_no_other"),
    "I16 one decision": (EXPLORED, RACED),
    "I17 gate": (
        EXPLORED, RACED,
        f"{APPROVALS}::test_changed_arguments_void_the_approval_that_was_not_used",
        f"{APPROVALS}::test_one_approval_lets_one_of_two_pass",
        f"{APPROVALS}::test_an_approval_that_expires_while_its_use_waits_at_the_gate_is_not_acted_upon",
    ),
    "I18 separation": (
        RACED,
        f"{APPROVALS}::test_who_asked_for_the_run_may_not_approve_it",
        "tests/attack/test_matrix.py::test_each_credential_gets_what_it_may",
    ),
    "I19 closed": (
        f"{APPROVALS}::test_without_a_clock_nothing_is_approved",
        f"{APPROVALS}::test_without_a_store_nothing_is_approved",
        "tests/supervisor/test_recovery.py::test_an_approval_is_never_made_by_a_restart",
    ),
    "I20 chain": (
        EXPLORED, KILLED,
        "tests/supervisor/test_chain.py::test_one_flipped_bit_is_found_where_it_is",
        "tests/supervisor/store/test_sqlite.py::test_changed_and_missing_rows_are_found",
    ),
    "I21 no credentials, no change": ("tests/attack/test_matrix.py::test_each_credential_gets_what_it_may",),
    "I22 authority at journal time": (
        "tests/supervisor/test_tenants.py::test_authority_is_asked_when_the_command_is_journaled",
        "tests/supervisor/test_tenants.py::test_the_parsed_command_says_which_scope_it_needs",
        "tests/web/test_checks.py::test_a_key_that_is_revoked_while_its_body_comes_does_nothing",
    ),
    "I23 audit": (
        EXPLORED,
        "tests/web/test_audit.py::test_each_request_leaves_one_row_or_none",
        "tests/web/test_audit.py::test_the_row_of_a_command_is_in_its_own_transaction",
        "tests/web/test_audit.py::test_refusals_of_strangers_are_counted_by_address_status_and_minute",
    ),
    "I24 secrets": (
        "tests/attack/test_canaries.py::test_no_secret_is_anywhere_but_where_it_was_granted",
        "tests/actors/test_secrets.py::test_however_it_is_cut_no_secret_comes_out_and_no_other_byte_is_lost",
    ),
    "I25 recovery": (
        EXPLORED,
        "tests/supervisor/test_recovery.py::test_recovering_twice_is_recovering_once",
        "tests/supervisor/store/test_sqlite.py::test_a_stale_owner_cannot_write",
        "tests/e2e/test_shutdown.py::test_a_second_daemon_on_the_same_state_gives_the_address_of_the_first",
    ),
    "I26 clock": (
        f"{APPROVALS}::test_a_clock_that_is_set_never_lets_an_approval_hold_longer",
        f"{APPROVALS}::test_a_clock_that_is_set_back_before_a_restart_revives_nothing",
        "tests/web/test_keys.py::test_an_expired_key_stays_expired_when_the_clock_is_set_back",
        "tests/web/auth/test_access.py::test_a_token_expires_and_stays_expired_when_the_clock_is_set_back",
    ),
    "I27 cancel": (
        EXPLORED,
        "tests/supervisor/test_commands.py::test_a_client_that_vanishes_leaves_no_row_or_a_whole_row",
        "tests/attack/test_churn.py::test_clients_that_vanish_leave_nothing",
    ),
    "I28 conservation": (
        EXPLORED, "tests/supervisor/test_commands.py::test_everything_accepted_is_settled_or_queued",
    ),
}  # fmt: skip

NUMBER: Final = re.compile(r'f?"(I\d+) ')


@pytest.mark.parametrize("promise", INVARIANTS)
def test_every_invariant_is_held_by_tests_that_are_there(root: Path, promise: str) -> None:
    assert [test for test in INVARIANTS[promise] if not is_there(root, test)] == []


def test_every_number_is_there_once_and_what_the_explorer_looks_at_says_so(root: Path) -> None:
    numbers = [promise.split()[0] for promise in INVARIANTS]
    assert numbers == [f"I{n}" for n in range(1, 29)]
    explored = {n for file in (root / "tests/simulation").glob("*.py") for n in NUMBER.findall(file.read_text())}
    assert explored <= {promise.split()[0] for promise, tests in INVARIANTS.items() if {EXPLORED, RACED} & {*tests}}


def test_what_stands_against_each_threat_is_tested_where_the_page_says(root: Path) -> None:
    page = (root / "docs/security.md").read_text()
    _, _, table = page.partition("## Mechanisms and their tests")
    rows = [row for row in table.partition("\n## ")[0].splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/\S+\.py)`", row.split("|")[3])
        assert named, row
        assert [test for test in named if not is_there(root, test)] == [], row
