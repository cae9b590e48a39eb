"""A real Home Assistant core with its real MQTT integration, asked by the tests over standard input.

    house.py      one JSON a line in, one JSON a line out; first of all {"do": "move", "port": PORT}

It starts no web page and no default integration; its HTTP server is on loopback. Which version it is
depends on the Python that runs it (requirements-*.txt). Home Assistant knows device discovery since
2024.12; for an older one the message is taken apart here as newer ones do, and each component is handed
in as a discovery message of its own.
"""

import asyncio
import json
import logging
import pathlib
import socket
import sys
import tempfile

import paho.mqtt.client as paho
from homeassistant import auth, bootstrap, config_entries, const, core, loader
from homeassistant.components import mqtt
from homeassistant.components.mqtt import abbreviations
from homeassistant.helpers import device_registry, entity_registry, template
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import parse_yaml

VERSION = (const.MAJOR_VERSION, const.MINOR_VERSION)
KNOWS_DEVICES = VERSION >= (2024, 12)
# Between these versions entity ids come from names alone.
TAKES_ENTITY_IDS = VERSION < (2024, 12) or VERSION >= (2025, 10)
# Not about what the device said.
OTHERS = ("aiohttp", "homeassistant.helpers.frame", "py.warnings", "asyncio")
# Of versions before 2024.12 only; see House.states and take_apart.
OF_OLD = ("Invalid state message", "Integration device is not supported")
SHARED = ("availability_topic", "state_topic")
# What was made of each device's message.
TAKEN_APART = {}

if VERSION < (2024, 8):
    # Written for paho-mqtt 1.6, of which there is no wheel; 2.x differs in these two.
    client = paho.Client
    paho.base62 = paho._base62
    paho.Client = lambda client_id="", **options: client(
        paho.CallbackAPIVersion.VERSION1, client_id, **options
    )


class Complaints(logging.Handler):
    """Whatever Home Assistant warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        line = f"{record.levelname} {record.name}: {record.getMessage()}"
        of_old = not KNOWS_DEVICES and any(text in line for text in OF_OLD)
        if not of_old and not record.name.startswith(OTHERS):
            self.lines.append(line)

    def take(self):
        lines, self.lines = self.lines, []
        return lines


async def start(folder):
    (pathlib.Path(folder) / "configuration.yaml").touch()
    hass = core.HomeAssistant(folder)
    hass.config.config_dir = folder
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    load = getattr(bootstrap, "async_load_base_functionality", None) or bootstrap.load_registries
    await load(hass)
    await hass.config_entries.async_initialize()
    hass.auth = await auth.auth_manager_from_config(hass, [{"type": "homeassistant"}], [])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        http = {"server_host": ["127.0.0.1"], "server_port": free.getsockname()[1]}
    assert await async_setup_component(hass, "homeassistant", {})
    assert await async_setup_component(hass, "http", {"http": http})
    # Before MQTT, which may set up the same domain: an alarm panel for automations.
    panel = {"platform": "manual", "name": "House", "code_arm_required": False, "arming_time": 0}
    assert await async_setup_component(hass, "alarm_control_panel", {"alarm_control_panel": [panel]})
    await hass.async_start()
    return hass


async def move(hass, port):
    """To another broker, by the steps of a user: what came from the broker before is gone with its integration."""
    for entry in hass.config_entries.async_entries("mqtt"):
        await hass.config_entries.async_remove(entry.entry_id)
    await hass.async_block_till_done()
    flow = await hass.config_entries.flow.async_init("mqtt", context={"source": "user"})
    flow = await hass.config_entries.flow.async_configure(
        flow["flow_id"], {"broker": "127.0.0.1", "port": port}
    )
    assert flow["type"] == "create_entry", flow
    await hass.async_block_till_done()
    if not KNOWS_DEVICES:
        await mqtt.async_subscribe(
            hass,
            "homeassistant/device/+/config",
            lambda message: hass.async_create_task(take_apart(hass, message)),
        )


def in_full(options, names):
    return {names.get(key, key): value for key, value in options.items()}


async def take_apart(hass, message):
    node = message.topic.split("/")[-2]
    if not message.payload:
        for topic in TAKEN_APART.pop(node, ()):
            await mqtt.async_publish(hass, topic, "")
        return
    device = in_full(json.loads(message.payload), abbreviations.ABBREVIATIONS | {"cmps": "components", "o": "origin", "p": "platform"})
    for key, options in device["components"].items():
        options = in_full(options, abbreviations.ABBREVIATIONS | {"p": "platform"})
        platform = options.pop("platform")
        text = ""
        if options:
            for name in SHARED:
                options.setdefault(name, device[name])
            options["device"] = device["device"]
            options["origin"] = device["origin"]
            # Without its platform that is what older versions take.
            options["object_id"] = options.pop("def_ent_id").split(".")[1]
            text = json.dumps(options)
        topic = f"homeassistant/{platform}/{node}/{key}/config"
        TAKEN_APART.setdefault(node, set()).add(topic)
        await mqtt.async_publish(hass, topic, text)


def older(step):
    """An automation in the words of before 2024.10."""
    if isinstance(step, list):
        return [older(part) for part in step]
    if not isinstance(step, dict):
        return step
    names = {"triggers": "trigger", "conditions": "condition", "actions": "action"}
    if not names.keys() & step.keys():
        names = {"trigger": "platform"} if "trigger" in step else {"action": "service"}
    return {names.get(key, key): older(value) for key, value in step.items()}


class House:
    def __init__(self, hass, complaints):
        self.hass = hass
        self.complaints = complaints
        self.calls = []

    async def move(self, ask):
        await move(self.hass, ask["port"])
        self.calls.clear()
        registry = entity_registry.async_get(self.hass)
        left = [entry.entity_id for entry in registry.entities.values() if entry.platform == "mqtt"]
        left += [device.name for device in device_registry.async_get(self.hass).devices.values()]
        assert not left, f"left of the broker before: {left}"
        self.complaints.take()
        return {}

    async def states(self, _):
        registry = entity_registry.async_get(self.hass)
        devices = device_registry.async_get(self.hass).devices.values()
        return {
            "states": {
                # Before device discovery, a text or time of `None` was not yet shown as unknown.
                state.entity_id: {"state": "unknown" if state.state == "None" else state.state, "attributes": dict(state.attributes)}
                for state in self.hass.states.async_all()
            },
            "entities": {
                entry.entity_id: {
                    "unique_id": entry.unique_id,
                    "platform": entry.platform,
                    "category": entry.entity_category,
                    "name": entry.original_name,
                }
                for entry in registry.entities.values()
            },
            "devices": [
                {"identifiers": sorted(i for _, i in device.identifiers), "name": device.name,
                 "manufacturer": device.manufacturer, "sw": device.sw_version, "sn": device.serial_number}
                for device in devices
            ],
            "complaints": self.complaints.lines,
            "calls": self.calls,
        }

    async def forgive(self, _):
        return {"complaints": self.complaints.take()}

    async def call(self, ask):
        domain, service = ask["service"].split(".")
        await self.hass.services.async_call(domain, service, ask.get("data", {}), blocking=True)
        return {}

    async def service(self, ask):
        """Stands in for a service, and notes how it is called."""
        domain, service = ask["service"].split(".")

        async def note(call):
            data = json.loads(json.dumps(dict(call.data), default=str))
            self.calls.append({"service": ask["service"], "data": data})

        self.hass.services.async_register(domain, service, note)
        return {}

    async def render(self, ask):
        return {"text": str(template.Template(ask["template"], self.hass).async_render())}

    async def setup(self, ask):
        """Integrations in YAML; what is not valid is a complaint of Home Assistant's."""
        config = parse_yaml(ask["yaml"])
        if VERSION < (2024, 10) and "automation" in config:
            config["automation"] = older(config["automation"])
        done = {name: await async_setup_component(self.hass, name, config) for name in config}
        await self.hass.async_block_till_done()
        return {"done": done}


async def main():
    complaints = Complaints()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.getLogger().addHandler(complaints)
    with tempfile.TemporaryDirectory() as folder:
        house = House(await start(folder), complaints)
        loop = asyncio.get_running_loop()
        print(json.dumps({"version": const.__version__, "devices": KNOWS_DEVICES, "entity_ids": TAKES_ENTITY_IDS}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            ask = json.loads(line)
            try:
                answer = await getattr(house, ask["do"])(ask)
            except Exception as error:  # the test shall see it
                logging.exception("asked %s", line)
                answer = {"error": repr(error)}
            print(json.dumps(answer, default=str), flush=True)
        await house.hass.async_stop(force=True)


asyncio.run(main())
