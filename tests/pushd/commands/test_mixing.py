"""Targets that do not mix, targets that go together, and ways of which there can be one."""

import msgspec
import pytest

from pushd.commands.mixing import Chosen, Targets, mix, pick
from pushd.errors import InvalidRequestError

EVERYONE = {"type": "broadcast"}


def mixed(target):
    return msgspec.to_builtins(mix(msgspec.convert(target, Targets)))


def both(*of):
    return {"type": "and", "of": [*of]}


def either(*of):
    return {"type": "or", "of": [*of]}


INSTALLS = {"type": "installs", "ids": ["a", "b"]}
USERS = {"type": "users", "ids": ["ada"]}
SEGMENT = {"type": "segment", "id": "s-1"}
CHANNELS = {"type": "channels", "any": ["c-1", "c-2"]}
FENCES = {"type": "geofence", "ids": [4, 5]}
TAGGED = {"type": "geofence", "tags": ["shop"]}
ANY_FENCE = {"type": "geofence", "any": True}
WITHOUT = {"type": "not", "of": {"type": "installs", "ids": ["x"]}}


@pytest.mark.parametrize(
    ("target", "audience"),
    [
        ({"broadcast": True}, EVERYONE),
        ({"broadcast": True, "excludeInstallIds": ["x"]}, both(EVERYONE, WITHOUT)),
        ({"broadcast": True, "excludeInstallIds": []}, EVERYONE),
        ({"installIds": ["a", "b"]}, INSTALLS),
        ({"userIds": ["ada"], "broadcast": False}, USERS),
        ({"installIds": ["a", "b"], "userIds": ["ada"]}, either(INSTALLS, USERS)),
        ({"installIds": ["a", "b"], "excludeInstallIds": ["x"]}, both(INSTALLS, WITHOUT)),
        ({"segmentUuid": "s-1"}, SEGMENT),
        ({"channelUuids": ["c-1", "c-2"]}, CHANNELS),
        ({"geofenceIds": [4, 5]}, FENCES),
        ({"geofenceTags": ["shop"]}, TAGGED),
        ({"geofenceBroadcast": True}, ANY_FENCE),
        ({"geofenceIds": [4, 5], "geofenceTags": ["shop"]}, either(FENCES, TAGGED)),
        ({"segmentUuid": "s-1", "channelUuids": ["c-1", "c-2"]}, both(SEGMENT, CHANNELS)),
        (
            {
                "segmentUuid": "s-1",
                "channelUuids": ["c-1", "c-2"],
                "geofenceIds": [4, 5],
                "geofenceTags": ["shop"],
                "excludeInstallIds": ["x"],
            },
            both(both(SEGMENT, CHANNELS, either(FENCES, TAGGED)), WITHOUT),
        ),
    ],
)
def test_what_goes_together(target, audience):
    assert mixed(target) == audience


@pytest.mark.parametrize(
    ("target", "pointers"),
    [
        ({}, ["/target"]),
        ({"broadcast": False}, ["/target"]),
        ({"geofenceBroadcast": False}, ["/target"]),
        ({"excludeInstallIds": ["x"]}, ["/target"]),
        ({"broadcast": True, "userIds": ["ada"]}, ["/target/userIds"]),
        ({"broadcast": True, "geofenceBroadcast": True}, ["/target/geofenceBroadcast"]),
        (
            {"installIds": ["a"], "segmentUuid": "s", "channelUuids": ["c"]},
            ["/target/segmentUuid", "/target/channelUuids"],
        ),
        ({"installIds": []}, ["/target/installIds"]),
        ({"segmentUuid": ""}, ["/target/segmentUuid"]),
        ({"broadcast": True, "channelUuids": []}, ["/target/channelUuids", "/target/channelUuids"]),
    ],
)
def test_what_does_not_mix_is_named(target, pointers):
    with pytest.raises(InvalidRequestError) as caught:
        mixed(target)
    assert [fault.pointer for fault in caught.value.faults] == pointers


STEP = {"association": "AND_NOT", "name": "cars"}


@pytest.mark.parametrize(
    ("chosen", "audience"),
    [
        ({}, EVERYONE),
        ({"tokens": ["a", "b"]}, INSTALLS),
        ({"aliases": ["own-1"]}, {"type": "aliases", "names": ["own-1"]}),
        ({"tags": ["cars"]}, {"type": "tags", "any": ["cars"]}),
        ({"tags_segment": [STEP]}, {"type": "tags_segment", "elements": [STEP]}),
        ({"segments": ["s-1"]}, SEGMENT),
    ],
)
def test_the_one_way_that_was_chosen(chosen, audience):
    assert msgspec.to_builtins(pick(msgspec.convert(chosen, Chosen))) == audience


@pytest.mark.parametrize(
    ("chosen", "pointers"),
    [
        ({"tokens": []}, ["/audience/tokens"]),
        ({"tokens": [str(at) for at in range(101)]}, ["/audience/tokens"]),
        ({"tags_segment": []}, ["/audience/tags_segment"]),
        ({"tags_segment": [STEP] * 257}, ["/audience/tags_segment"]),
        ({"segments": ["s-1", "s-2"]}, ["/segments"]),
        ({"tags": ["cars"], "tags_segment": [STEP]}, ["/audience/tags_segment"]),
        ({"tags": ["cars"], "segments": ["s-1"]}, ["/segments"]),
    ],
)
def test_two_ways_or_a_bad_one_are_refused(chosen, pointers):
    with pytest.raises(InvalidRequestError) as caught:
        pick(msgspec.convert(chosen, Chosen))
    assert [fault.pointer for fault in caught.value.faults] == pointers
    with pytest.raises(InvalidRequestError) as caught:
        pick(msgspec.convert(chosen, Chosen), dict.fromkeys(Chosen.__struct_fields__, "/elsewhere"))
    assert {fault.pointer for fault in caught.value.faults} == {"/elsewhere"}
