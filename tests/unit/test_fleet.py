from __future__ import annotations

import pytest

from bridge.sidekiq import fleet


@pytest.mark.parametrize("processes", [17, 200, 5000])
def test_one_process_reads_about_ten_rows_a_second_in_a_fleet_of_any_size(processes: int) -> None:
    rests = [fleet.rest_seconds(processes, few=fleet.FEW_PROCESSES) for _ in range(1000)]
    assert all(5 <= processes / rest <= 20 for rest in rests)
    assert 9 < processes / (sum(rests) / len(rests)) < 11
    # Those that were started at once do not read at once
    assert len({round(rest / processes, 3) for rest in rests}) > 50


def test_of_few_processes_each_look_reads_all() -> None:
    assert fleet.rest_seconds(fleet.FEW_PROCESSES, few=fleet.FEW_PROCESSES) == 0.0
    assert fleet.rest_seconds(0) == 0.0
