"""The XML is written out of the table; this needs no JSBSim."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as Xml

import pytest
from llm_gym_autopilot.aircraft import NAVION
from llm_gym_autopilot.jsbsim_xml import NAVION_LATERAL, aircraft_xml, write_aircraft

NOT_IN_THE_PHYSICS = {
    "reference_airspeed",
    "power_lag",  # in Python
    "elevator_limit",
    "maximum_airspeed",
    "minimum_airspeed",
    "minimum_load_factor",
    "maximum_load_factor",
}
COEFFICIENTS = [f.name for f in dataclasses.fields(NAVION) if f.name != "name"]
LATERAL = [f.name for f in dataclasses.fields(NAVION_LATERAL)]


def text_of(aircraft=NAVION, lateral=NAVION_LATERAL) -> bytes:
    return Xml.tostring(aircraft_xml(aircraft, lateral))


def changed(table, name):
    return dataclasses.replace(table, **{name: 1.5 * getattr(table, name)})


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_every_coefficient_of_the_table_is_in_the_file(name):
    differs = text_of(changed(NAVION, name)) != text_of()
    assert differs == (name not in NOT_IN_THE_PHYSICS)


@pytest.mark.parametrize("name", LATERAL)
def test_every_lateral_derivative_is_in_the_file(name):
    assert text_of(lateral=changed(NAVION_LATERAL, name)) != text_of()


def test_numbers_keep_all_their_digits():
    induced = dataclasses.replace(NAVION, drag_induced=0.1 + 0.2)
    values = {float(v.text) for v in aircraft_xml(induced).iter("value")}
    assert 0.1 + 0.2 in values


def test_file_lies_where_jsbsim_looks(tmp_path):
    renamed = dataclasses.replace(NAVION, name="other")
    write_aircraft(renamed, tmp_path)
    write_aircraft(renamed, tmp_path)  # again is no error
    root = Xml.parse(tmp_path / "other" / "other.xml").getroot()
    assert root.get("name") == "other"
    written = [(e.tag, e.attrib, (e.text or "").strip()) for e in root.iter()]
    assert written == [(e.tag, e.attrib, e.text or "") for e in aircraft_xml(renamed).iter()]
