"""Where the servers are: by the instance of a folder, else by the settings."""

import os

import pytest

from novadex.errors import ConfigurationError, UnavailableError
from novadex.instance import Instance, Process, Service, find_endpoints, write_instance
from novadex.settings import load_settings

HERE = Process.of(os.getpid())
ROLES = ("owner", "app", "worker", "readonly", "backup")


@pytest.fixture
def instance(tmp_path):
    return Instance(
        "0123456789abcdef",
        str(tmp_path),
        18,
        supervisor=HERE,
        services={
            "main": Service(
                "healthy", HERE, 5432, "postgresql://novadex_owner:secret-owner@127.0.0.1:5432/novadex_db"
            ),
            "analytics": Service("healthy", HERE, 5433, "postgresql://somewhere"),
            "cache": Service("healthy", HERE, 6379, "redis://:secret-cache@127.0.0.1:6379/0"),
            "sessions": Service("healthy", HERE, 6380, "redis://:secret-sessions@127.0.0.1:6380/0"),
        },
        passwords={role: f"secret-{role}" for role in ROLES},
    )


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_its_own_urls(instance, tmp_path, role):
    write_instance(tmp_path, instance)
    found = find_endpoints(load_settings(), tmp_path, role)
    assert found.main == f"postgresql://novadex_{role}:secret-{role}@127.0.0.1:5432/novadex_db"
    assert found.analytics == f"postgresql://novadex_{role}:secret-{role}@127.0.0.1:5433/novadex_analytics"
    assert found.cache == instance.services["cache"].url


def test_a_stopped_instance_says_how_to_start_it(instance, tmp_path):
    instance.supervisor = None
    for service in instance.services.values():
        service.status, service.process = "stopped", None
    write_instance(tmp_path, instance)
    with pytest.raises(UnavailableError, match=f"is stopped.*novadex up --data-dir {tmp_path}"):
        find_endpoints(load_settings(), tmp_path)


def test_servers_whose_supervisor_was_killed_are_still_found(instance, tmp_path):
    instance.supervisor = None
    write_instance(tmp_path, instance)
    assert find_endpoints(load_settings(), tmp_path).sessions == instance.services["sessions"].url


def test_a_server_that_is_being_started_again_keeps_its_address(instance, tmp_path):
    instance.services["main"] = Service("starting", None, 5432, "postgresql://somewhere")
    write_instance(tmp_path, instance)
    assert find_endpoints(load_settings(), tmp_path).main.endswith("@127.0.0.1:5432/novadex_db")


def test_an_external_database_is_used_as_it_was_set_and_by_its_owner_for_the_schema(instance, tmp_path):
    instance.services["main"] = Service("external", url="postgresql://app@db/x", owner_url="postgresql://owner@db/x")
    write_instance(tmp_path, instance)
    assert find_endpoints(load_settings(), tmp_path, "app").main == "postgresql://app@db/x"
    assert find_endpoints(load_settings(), tmp_path, "owner").main == "postgresql://owner@db/x"


def test_a_folder_without_an_instance_is_an_error_where_it_was_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no NovaDex instance"):
        find_endpoints(load_settings(), tmp_path)


def test_nothing_prints_a_password(instance, tmp_path):
    write_instance(tmp_path, instance)
    assert "secret" not in repr(instance)
    assert "secret" not in repr(instance.services["main"])
    assert "secret" not in repr(find_endpoints(load_settings(), tmp_path))


def test_a_process_is_not_mistaken_for_an_earlier_one_with_its_number():
    assert HERE.alive()
    assert not Process(HERE.pid, HERE.started - 60).alive()
