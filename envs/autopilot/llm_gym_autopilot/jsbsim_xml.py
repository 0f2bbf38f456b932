"""The same aeroplane for JSBSim: its XML written out of the table that the fast environment flies.

The longitudinal numbers come from `Aircraft`, so a changed coefficient changes both. The fast
environment has no lateral motion; JSBSim flies all six degrees of freedom, and gets the Navion's
published lateral derivatives from here, with an aileron loop that holds the wings level. There is
no rudder loop: the aeroplane is directionally stable without.

Controls from outside are the properties `fcs/elevator-cmd-rad` (trailing edge down positive) and
`fcs/engine-power` (lagged, 0 to 1). The lag is left to the caller: a filter in JSBSim starts at
zero, so that the engine would spool up from nothing at every start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

from llm_gym_autopilot.aircraft import FEET, SEA_LEVEL_DENSITY, Aircraft

__all__ = ["NAVION_LATERAL", "LateralDerivatives", "aircraft_xml", "write_aircraft"]

NEWTONS_PER_POUND = 4.4482216152605
KILOGRAMS_PER_SLUG = 14.593902937206

PRESSURE_AREA = ("aero/qbar-psf", "metrics/Sw-sqft")  # a product of these is a force, in pounds
ROLL_GAIN = -1.5  # aileron per bank angle
ROLL_RATE_GAIN = -0.4  # aileron per roll rate, s


@dataclass(frozen=True)
class LateralDerivatives:
    """Derivatives of the lateral motion, per radian.

    Rates are made dimensionless with `span / (2 * airspeed)`. Positive aileron rolls to the right.
    """

    side_sideslip: float  # CY_beta
    roll_sideslip: float  # Cl_beta
    roll_roll_rate: float  # Cl_p
    roll_yaw_rate: float  # Cl_r
    roll_aileron: float  # Cl_delta_a
    yaw_sideslip: float  # Cn_beta
    yaw_roll_rate: float  # Cn_p
    yaw_yaw_rate: float  # Cn_r
    yaw_aileron: float  # Cn_delta_a


# Teper (NASA CR-96008, 1969), printed by Nelson, Flight Stability and Automatic Control, table B.1,
# whose aileron is positive to the left.
NAVION_LATERAL = LateralDerivatives(
    side_sideslip=-0.564,
    roll_sideslip=-0.074,
    roll_roll_rate=-0.410,
    roll_yaw_rate=0.107,
    roll_aileron=0.134,
    yaw_sideslip=0.071,
    yaw_roll_rate=-0.0575,
    yaw_yaw_rate=-0.125,
    yaw_aileron=-0.0035,
)

Term = float | str | Xml.Element


def _element(term: Term) -> Xml.Element:
    """A number, the name of a property, or an expression, as JSBSim writes it."""
    if isinstance(term, Xml.Element):
        return term
    element = Xml.Element("property" if isinstance(term, str) else "value")
    element.text = term if isinstance(term, str) else repr(float(term))
    return element


def _operation(name: str, *terms: Term) -> Xml.Element:
    element = Xml.Element(name)
    element.extend([_element(term) for term in terms])
    return element


def _product(*terms: Term) -> Xml.Element:
    return _operation("product", *terms)


def _sum(*terms: Term) -> Xml.Element:
    return _operation("sum", *terms)


def _function(name: str, expression: Xml.Element) -> Xml.Element:
    function = Xml.Element("function", name=name)
    function.append(expression)
    return function


def _quantity(parent: Xml.Element, name: str, value: float, unit: str) -> None:
    Xml.SubElement(parent, name, unit=unit).text = repr(value)


def _origin(parent: Xml.Element, name: str) -> None:
    """A point in the centre of gravity, where all forces and moments are given."""
    location = Xml.SubElement(parent, "location", name=name, unit="M")
    for axis in "xyz":
        Xml.SubElement(location, axis).text = "0"


def _metrics(aircraft: Aircraft) -> Xml.Element:
    metrics = Xml.Element("metrics")
    _quantity(metrics, "wingarea", aircraft.wing_area, "M2")
    _quantity(metrics, "wingspan", aircraft.wing_span, "M")
    _quantity(metrics, "chord", aircraft.chord, "M")
    for point in ("AERORP", "EYEPOINT", "VRP"):
        _origin(metrics, point)
    return metrics


def _mass_balance(aircraft: Aircraft) -> Xml.Element:
    balance = Xml.Element("mass_balance")
    _quantity(balance, "ixx", aircraft.roll_inertia, "KG*M2")
    _quantity(balance, "iyy", aircraft.pitch_inertia, "KG*M2")
    _quantity(balance, "izz", aircraft.yaw_inertia, "KG*M2")
    _quantity(balance, "emptywt", aircraft.mass, "KG")
    _origin(balance, "CG")
    return balance


def _controls() -> Xml.Element:
    controls = Xml.Element("flight_control", name="FCS")
    for name in ("fcs/elevator-cmd-rad", "fcs/engine-power"):
        Xml.SubElement(controls, "property", value="0").text = name
    channel = Xml.SubElement(controls, "channel", name="Wings level")
    loop = Xml.SubElement(channel, "fcs_function", name="fcs/wings-level")
    expression = _sum(
        _product(ROLL_GAIN, "attitude/phi-rad"), _product(ROLL_RATE_GAIN, "velocities/p-rad_sec")
    )
    Xml.SubElement(loop, "function").append(expression)
    Xml.SubElement(loop, "output").text = "fcs/aileron-pos-rad"
    return controls


def _thrust(aircraft: Aircraft) -> Xml.Element:
    """Force along x: `p eta P (1.132 sigma - 0.132) / sqrt(V^2 + V0^2)`, in pounds.

    The density ratio is taken to the same sea level as in the fast environment.
    """
    density_ratio = _operation(
        "quotient", "atmosphere/rho-slugs_ft3", SEA_LEVEL_DENSITY * FEET**3 / KILOGRAMS_PER_SLUG
    )
    speed = aircraft.thrust_airspeed / FEET
    squares = _sum(_product("velocities/vt-fps", "velocities/vt-fps"), speed**2)
    foot_pounds = aircraft.power / (FEET * NEWTONS_PER_POUND)
    expression = _operation(
        "quotient",
        _product(
            "fcs/engine-power",
            aircraft.propeller_efficiency * foot_pounds,
            _operation("difference", _product(1.132, density_ratio), 0.132),
        ),
        _operation("pow", squares, 0.5),
    )
    external = Xml.Element("external_reactions")
    force = Xml.SubElement(external, "force", name="thrust", frame="BODY")
    force.append(_function("external_reactions/thrust/magnitude", expression))
    _origin(force, "CG")
    direction = Xml.SubElement(force, "direction")
    for axis, value in zip("xyz", "100", strict=True):
        Xml.SubElement(direction, axis).text = value
    return external


def _lift_and_drag(aircraft: Aircraft) -> list[Xml.Element]:
    """The axes DRAG and LIFT, with `aero/wing-lift-coefficient` computed before them."""
    past_stall = _operation("difference", "aero/alpha-rad", aircraft.stall_alpha)
    wing = _operation(
        "min",
        _sum(aircraft.lift_zero, _product(aircraft.lift_alpha, "aero/alpha-rad")),
        _sum(aircraft.maximum_lift, _product(aircraft.post_stall_lift, past_stall)),
    )
    lift = _sum(
        "aero/wing-lift-coefficient",
        _product(aircraft.lift_elevator, "fcs/elevator-cmd-rad"),
        _product(aircraft.lift_pitch_rate, "velocities/q-aero-rad_sec", "aero/ci2vel"),
    )
    drag = _sum(
        aircraft.drag_minimum,
        _product(aircraft.drag_induced, "aero/wing-lift-coefficient", "aero/wing-lift-coefficient"),
        _product(aircraft.post_stall_drag, _operation("max", past_stall, 0.0)),
    )
    return [
        _function("aero/wing-lift-coefficient", wing),
        _axis("DRAG", "aero/drag", drag),
        _axis("LIFT", "aero/lift", lift),
    ]


def _axis(name: str, function: str, coefficient: Xml.Element, *lengths: str) -> Xml.Element:
    axis = Xml.Element("axis", name=name)
    axis.append(_function(function, _product(*PRESSURE_AREA, *lengths, coefficient)))
    return axis


def _pitch(aircraft: Aircraft) -> Xml.Element:
    rates = _sum(
        _product(aircraft.moment_pitch_rate, "velocities/q-aero-rad_sec"),
        _product(aircraft.moment_alpha_rate, "aero/alphadot-rad_sec"),
    )
    coefficient = _sum(
        _product(aircraft.moment_alpha, "aero/alpha-rad"),
        _product("aero/ci2vel", rates),
        _product(aircraft.moment_elevator, "fcs/elevator-cmd-rad"),
    )
    return _axis("PITCH", "aero/pitching-moment", coefficient, "metrics/cbarw-ft")


def _lateral(lateral: LateralDerivatives) -> list[Xml.Element]:
    def moment(sideslip: float, roll_rate: float, yaw_rate: float, aileron: float) -> Xml.Element:
        rates = _sum(
            _product(roll_rate, "velocities/p-aero-rad_sec"),
            _product(yaw_rate, "velocities/r-aero-rad_sec"),
        )
        return _sum(
            _product(sideslip, "aero/beta-rad"),
            _product("aero/bi2vel", rates),
            _product(aileron, "fcs/aileron-pos-rad"),
        )

    roll = moment(
        lateral.roll_sideslip, lateral.roll_roll_rate, lateral.roll_yaw_rate, lateral.roll_aileron
    )
    yaw = moment(
        lateral.yaw_sideslip, lateral.yaw_roll_rate, lateral.yaw_yaw_rate, lateral.yaw_aileron
    )
    return [
        _axis("SIDE", "aero/side-force", _product(lateral.side_sideslip, "aero/beta-rad")),
        _axis("ROLL", "aero/rolling-moment", roll, "metrics/bw-ft"),
        _axis("YAW", "aero/yawing-moment", yaw, "metrics/bw-ft"),
    ]


def aircraft_xml(aircraft: Aircraft, lateral: LateralDerivatives = NAVION_LATERAL) -> Xml.Element:
    """Describes an aeroplane in JSBSim's language.

    Args:
        aircraft: The table of its longitudinal motion.
        lateral: Derivatives of its lateral motion, which only keeps it upright here.

    Returns:
        The element `fdm_config`.
    """
    root = Xml.Element("fdm_config", name=aircraft.name, version="2.0", release="PRODUCTION")
    Xml.SubElement(root, "fileheader")
    root.append(_metrics(aircraft))
    root.append(_mass_balance(aircraft))
    Xml.SubElement(root, "ground_reactions")
    root.append(_controls())
    root.append(_thrust(aircraft))
    aerodynamics = Xml.SubElement(root, "aerodynamics")
    aerodynamics.extend([*_lift_and_drag(aircraft), _pitch(aircraft), *_lateral(lateral)])
    return root


def write_aircraft(aircraft: Aircraft, directory: Path) -> None:
    """Writes `directory/<name>/<name>.xml`, which JSBSim finds with `directory` as aircraft path.

    Args:
        aircraft: The aeroplane; its name must be fit for a file.
        directory: An existing folder.
    """
    path = Path(directory) / aircraft.name / f"{aircraft.name}.xml"
    path.parent.mkdir(exist_ok=True)
    tree = Xml.ElementTree(aircraft_xml(aircraft))
    Xml.indent(tree)
    tree.write(path, encoding="utf-8", xml_declaration=True)
