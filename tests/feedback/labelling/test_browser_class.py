"""A class votes from its phones, in a real Chromium: several at once, lost connections, results."""

from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.addresses import Address
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Comparison
from tests.browsing import READY
from tests.feedback.labelling.conftest import fill
from tests.feedback.labelling.test_browser_looks import contrast
from tests.products import covering

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
RESTING = "body[data-state=resting]"


@pytest.fixture
def class_url(store, serve):
    """Where a class of a store with six comparisons, all of them shared, finds the page."""
    fill(store, 6)
    return serve(StoreDesk(store, overlap=1.0), host="0.0.0.0")


def seat(visit, url, name):
    watched = visit(url, **PHONE).open("#welcome:not([hidden])")
    watched.page.fill("#rater", name)
    watched.page.tap("#welcome button")
    watched.page.wait_for_selector(READY)
    return watched


def tap(watched, side, then=READY):
    watched.page.wait_for_selector(READY)
    with watched.page.expect_response("**/api/vote"):
        watched.page.tap(f"#card-{side} .text")
    watched.page.wait_for_selector(then)


def test_two_phones_of_one_name_are_two_raters_and_share_pairs(store, class_url, visit):
    phones = [seat(visit, class_url, "Anna") for _ in range(2)]
    assert [phone.text("#name") for phone in phones] == ["Anna", "Anna (2)"]
    for _ in range(3):
        for phone in phones:
            tap(phone, "left")
    assert phones[0].text("#progress") == "3 by you, 3 left"
    votes = list(store.votes())
    asked = {
        name: {vote.comparison_id for vote in votes if vote.rater == name}
        for name in ("Anna", "Anna (2)")
    }
    assert [len(ids) for ids in asked.values()] == [3, 3]
    assert asked["Anna"] & asked["Anna (2)"]  # agreement can be measured before all is done
    phones[1].page.reload()
    phones[1].page.wait_for_selector(READY)
    assert phones[1].text("#name") == "Anna (2)"
    for phone in phones:
        phone.assert_clean()


def test_without_a_name_a_phone_is_a_guest(class_url, visit):
    assert [seat(visit, class_url, "").text("#name") for _ in range(2)] == ["Guest 1", "Guest 2"]


def test_a_phone_that_loses_the_network_delivers_its_vote_once(store, class_url, visit):
    phone = seat(visit, class_url, "Bo")
    phone.page.context.set_offline(True)
    phone.page.tap("#card-right .text")
    phone.page.wait_for_selector("#trouble:not([hidden])")
    assert "Your vote is kept here" in phone.text("#trouble")
    phone.page.tap("#card-left .text")  # a vote is on its way
    assert not list(store.votes())
    phone.page.context.set_offline(False)
    phone.page.wait_for_selector("#trouble", state="hidden")
    phone.settles_at("1 by you, 5 left")
    assert [vote.rater for vote in store.votes()] == ["Bo"]


def test_an_address_without_its_key_says_so_and_one_with_it_goes_on(store, class_url, visit):
    bare, key = class_url.split("#")
    phone = visit(bare, **PHONE).open("#welcome:not([hidden])")
    phone.page.tap("#welcome button")
    phone.page.wait_for_selector("#trouble:not([hidden])")
    assert "whole address" in phone.text("#trouble")
    phone.page.evaluate(f"location.hash = '{key}'")
    phone.page.wait_for_selector("#trouble", state="hidden")
    phone.page.tap("#welcome button")
    phone.page.wait_for_selector(READY)


def test_a_vote_for_which_the_key_was_lost_is_kept(store, class_url, visit):
    phone = seat(visit, class_url, "Cy")
    refused = {"status": 401, "json": {"error": "This page needs its whole address"}}
    stopped = {"status": 403, "json": {"error": "The server was restarted"}}
    phone.page.route("**/api/session", lambda route: route.fulfill(**refused))
    phone.page.route("**/api/vote", lambda route: route.fulfill(**stopped))
    phone.page.tap("#card-left .text")
    phone.page.wait_for_selector("body[data-state=stopped]")
    assert "whole address" in phone.text("#trouble")
    assert not list(store.votes())
    phone.page.unroute("**/api/session")
    phone.page.unroute("**/api/vote")
    phone.page.reload()
    phone.settles_at("1 by you, 5 left")
    assert len(list(store.votes())) == 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_enter_on_a_card_chooses_it(store, serve, visit, side):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    shown = watched.text(f"#answer-{side}")
    watched.page.keyboard.press("Enter")  # on no card: no vote
    watched.page.focus(f"#answer-{side}")
    watched.press("Enter")
    [vote] = store.votes()
    assert store.comparison(vote.comparison_id).answers[vote.choice.value == "second"] == shown


# ------------------------------------------------------------------ for the projector


@pytest.fixture
def ways(monkeypatch):
    found = [Address("wlan0", "http://192.0.2.7:80/"), Address("eth0", "http://10.0.0.7:80/")]
    name = "llm_gym.feedback.labelling.server.addresses_elsewhere"
    monkeypatch.setattr(name, lambda host, port: found if host == "0.0.0.0" else [])


def results(class_url):
    return "{}results#{}".format(*class_url.split("#"))


def test_the_results_follow_the_votes(store, class_url, ways, visit):
    screen = visit(results(class_url)).open()
    assert screen.text(".big").split() == ["0", "of", "12", "votes"]
    assert screen.text("#same") == screen.text("#alpha") == "\u2013"
    phones = [seat(visit, class_url, name) for name in ("Anna", "Bo")]
    for _ in range(5):
        for phone in phones:
            tap(phone, "left")
    tap(phones[0], "left", RESTING)
    tap(phones[1], "left", RESTING)
    screen.page.wait_for_selector("#votes >> text=12")
    assert screen.text("#who") == "2 people have voted"
    assert screen.text("#pace-note") == "all votes are in"
    assert "100 % for the answer shown first" in screen.text("#besides")
    agree = store_agreement(store)
    assert screen.text("#same") == f"{round(100 * agree)} %"
    assert "6 shared pairs; too few to say much" in screen.text("#same-note")
    assert screen.text("#alpha-name") == "Cohen\u2019s \u03ba"
    assert screen.page.get_attribute("#track", "aria-valuenow") == "12"
    screen.assert_clean()


def store_agreement(store):
    choices = {}
    for vote in store.votes():
        choices.setdefault(vote.comparison_id, []).append(vote.choice)
    assert {len(pair) for pair in choices.values()} == {2}
    return sum(pair[0] == pair[1] for pair in choices.values()) / len(choices)


def test_the_code_is_that_of_the_network_that_is_chosen(class_url, ways, visit):
    key = class_url.split("#")[1]
    screen = visit(results(class_url)).open()
    first = screen.page.get_attribute("#code path", "d")
    assert screen.text("#address") == f"http://192.0.2.7:80/#{key}"
    screen.page.select_option("#network", label="eth0: 10.0.0.7")
    assert screen.text("#address") == f"http://10.0.0.7:80/#{key}"
    assert screen.page.get_attribute("#code path", "d") != first
    with screen.page.expect_response("**/api/results"):
        pass
    assert screen.text("#address") == f"http://10.0.0.7:80/#{key}"  # it stays chosen
    screen.assert_clean()


def test_on_loopback_nobody_can_join(store, serve, ways, visit):
    fill(store)
    screen = visit(serve(StoreDesk(store), rater="Ada") + "results").open()
    assert not screen.page.is_visible("#join")


@pytest.mark.parametrize(
    ("size", "scheme"), covering([(320, 640), (390, 844), (1280, 720)], ["light", "dark"])
)
def test_the_results_fit_and_can_be_read(class_url, ways, visit, size, scheme):
    width, height = size
    viewport = {"width": width, "height": height}
    screen = visit(results(class_url), viewport=viewport, color_scheme=scheme).open()
    sizes = screen.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert sizes[0] <= width
    if width > 900:
        assert sizes[1] <= height  # a projector shows all of it at once
    inks = screen.page.evaluate(
        """() => [".big b", ".small", ".card h2", "#address"].map((selector) => {
          const ink = getComputedStyle(document.querySelector(selector)).color;
          const card = getComputedStyle(document.querySelector(".card")).backgroundColor;
          return [ink, card].map((colour) => colour.match(/[\\d.]+/g).map(Number));
        })"""
    )
    assert all(contrast(ink, card) >= 4.5 for ink, card in inks)  # WCAG 2.2, 1.4.3
    paper = screen.page.evaluate(
        "getComputedStyle(document.querySelector('#code')).backgroundColor"
    )
    assert paper == "rgb(255, 255, 255)"  # phones read dark on white


def test_what_a_model_writes_cannot_reach_the_results(store, serve, ways, visit):
    store.add([Comparison("<img src=x onerror='window.pwned=1'>", ("<b>a</b>", "<script>x"))])
    url = serve(StoreDesk(store), host="0.0.0.0")
    phone = seat(visit, url, "<b>Eve</b>")
    assert phone.text("#name") == "<b>Eve</b>"
    tap(phone, "left", RESTING)
    screen = visit(results(url)).open()
    screen.page.wait_for_selector("#who >> text=1 person has voted")
    screen.assert_clean()
    phone.assert_clean()
