from __future__ import annotations

import pytest

from bridge.monitoring.native_names import Near, near


@pytest.mark.parametrize(
    ("job_class", "task"),
    [
        ("ReportJob", "ReprotJob"),
        ("ReportJob", "ReportWorker"),
        ("ReportJob", "Report"),
        ("ReportJob", "myapp.tasks.report_job"),
        ("Admin::ReportJob", "ReportJob"),
        ("Admin::ReportJob", "Admin::ReprotJob"),
        ("PDFJob", "PdfJob"),
    ],
)
def test_a_task_is_near_the_class_that_it_was_meant_for(job_class: str, task: str) -> None:
    assert near([job_class], [task, "QuiteAnotherJob"]) == [Near(job_class, task)]


@pytest.mark.parametrize(
    ("job_class", "task"),
    [
        ("UserImportJob", "UserExportJob"),
        ("Step1Job", "Step2Job"),
        ("CreateUserJob", "UpdateUserJob"),
        ("HardJob", "EasyJob"),
        ("Job", "Worker"),
    ],
)
def test_two_classes_are_not_one_and_its_misspelling(job_class: str, task: str) -> None:
    assert near([job_class], [task]) == []


def test_a_class_that_has_its_task_is_no_mistake() -> None:
    assert near(["ReportJob", "ReportsJob"], ["ReportJob", "ReportsJob"]) == []
