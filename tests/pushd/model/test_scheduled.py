"""Views and changes of schedules say of a send what can be seen and edited of it."""

from pushd.model.notification import NotificationView, Send
from pushd.model.scheduled import ScheduleChange, ScheduleView

NEVER_SHOWN = {"user_data", "user_meta"}
"""Data of many users by name, which may be as large as the request was."""


def test_views_show_everything_that_was_asked_for():
    asked = set(Send.__struct_fields__) - NEVER_SHOWN
    assert asked <= set(NotificationView.__struct_fields__)
    assert asked <= set(ScheduleView.__struct_fields__)


def test_everything_that_was_asked_for_can_be_changed_while_it_waits():
    assert set(Send.__struct_fields__) <= set(ScheduleChange.__struct_fields__)
