"""``novadex simulate`` and ``novadex reconcile`` as programs."""

import json

import psycopg


def test_what_is_wrong_is_named_and_the_exit_code_says_so(novadex, fresh_databases):
    simulated = novadex.json(
        "simulate", "--markets=1", "--users=6", "--rate=5", "--duration=20s", "--simulated-time", "--seed=3"
    )
    assert simulated["simulated_s"] == 20
    assert simulated["commands"]["fill"] > 0
    clean = novadex.json("reconcile")
    assert clean["difference_count"] == 0
    assert not clean["findings"]
    # No cache server runs, and no worker: what cannot be asked is said.
    assert set(clean["skipped"]) >= {"book", "cache", "candles"}
    assert {"orders", "events", "fills", "sequences", "matches"} <= {
        check["name"] for check in clean["checks"] if check["checked"] > 0
    }
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        (id,) = superuser.execute(
            "UPDATE orders SET status = 'cancelled' WHERE id = (SELECT id FROM orders WHERE status = 'open' LIMIT 1)"
            " RETURNING id::text"
        ).fetchone() or ("",)
    broken = novadex.json("reconcile", "--only=orders", "--only=fills", code=3)
    [finding] = broken["findings"]
    assert finding["key"] == {"id": id}
    assert (finding["stored"], finding["expected"]) == ({"status": "cancelled"}, {"status": "open"})
    told = novadex.run("reconcile", "--repair", "--only=orders", code=3)
    assert f"orders: orders id={id}: has status=cancelled, expected status=open" in told.stdout
    assert "records are not repaired" in told.stdout
    unknown = novadex.run("reconcile", "--only=horoscope", "--json", code=2)
    assert json.loads(unknown.stdout)["error"]["details"]["field"] == "only"


def test_an_invariant_that_is_named_twice_is_asked_once(novadex):
    twice = ("reconcile", "--only=orders", "--only=fills", "--only=orders")
    assert [check["name"] for check in novadex.json(*twice)["checks"]] == ["orders", "fills"]
    assert novadex.run(*twice).stdout.count("orders ") == 1


def test_where_nothing_could_be_asked_it_is_said(novadex):
    novadex.run("simulate", "--markets=1", "--users=6", "--rate=5", "--duration=5s", "--simulated-time")
    arguments = ("reconcile", "--only=book", "--only=cache")  # no cache server runs
    told = novadex.run(*arguments)
    assert "NOTHING could be asked" in told.stderr
    assert "book, cache" in told.stderr
    document = novadex.json(*arguments)
    assert (document["asked"], document["skipped"]) == ([], ["book", "cache"])
    some = novadex.run(*arguments, "--only=orders", "--json")
    assert json.loads(some.stdout)["asked"] == ["orders"]
    assert "not everything could be asked: book, cache" in some.stderr


def test_wrong_options_of_a_simulation_are_named(novadex):
    for options, field in (
        (("--duration=soon",), "duration"),
        (("--rate=100000",), "rate"),
        (("--users=1",), "users"),
    ):
        refused = novadex.json("simulate", *options, code=2)
        assert refused["error"]["details"]["field"] == field
