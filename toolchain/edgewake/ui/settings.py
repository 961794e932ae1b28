"""Panel 2: every key of the configuration, as the typed sections have it, with its range and description."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import gradio as gr

from edgewake.config import WakewordConfig
from edgewake.config.base import Section
from edgewake.config.presets import get_preset, list_presets
from edgewake.config.ranges import allowed
from edgewake.config.yaml_text import dump, parse_scalar
from edgewake.errors import EdgewakeError
from edgewake.ui.common import told
from edgewake.ui.project import Project

# Titles of tabs, and what is in them beside the section of that name, below a heading.
TITLES = {"optimizer": "Optimization & Loss", "qat": "QAT"}
BELOW = {"optimizer": {"distillation": "Advanced Optimization"}}
# The guide's words; other keys go by their names.
LABELS = {
    "distillation.enabled": "Enable Distillation",
    "distillation.teacher_architecture": "Teacher Arch",
    "distillation.temperature": "Distillation Temp",
    "distillation.alpha": "Distillation Alpha",
}
GENERAL = "General"


class Setting(NamedTuple):
    """A key, its place in the typed configuration, and its JSON Schema."""

    section: str
    name: str
    description: str
    schema: dict[str, Any]

    @property
    def key(self) -> str:
        """The full key."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def _plain(self) -> bool:
        return "enum" in self.schema or "const" in self.schema or self.schema.get("type") in ("boolean", "string")

    @property
    def _number(self) -> bool:
        return not self._plain and self.schema.get("type") in ("integer", "number")

    @property
    def _info(self) -> str:
        chosen = "enum" in self.schema or "const" in self.schema or self.schema.get("type") == "boolean"
        return ". ".join(filter(None, (self.description, "" if chosen else allowed(self.schema))))

    def component(self) -> gr.components.Component:
        """What is filled in; lists, and numbers that may be null, are written as in YAML."""
        about: dict[str, Any] = {
            "label": LABELS.get(self.key, self.name),
            "info": self._info,
            "elem_id": f"setting-{self.key.replace('.', '-')}",
        }
        if "enum" in self.schema or "const" in self.schema:
            return gr.Dropdown(self.schema.get("enum", [self.schema.get("const")]), **about)
        if self.schema.get("type") == "boolean":
            return gr.Checkbox(**about)
        if self._number:
            return gr.Number(precision=0 if self.schema["type"] == "integer" else None, **about)
        return gr.Textbox(max_lines=1, **about)

    def shown(self, config: WakewordConfig) -> Any:
        """The value for its component."""
        value = getattr(getattr(config, self.section) if self.section else config, self.name)
        return value if self._plain or self._number else dump({"": value}).partition(": ")[2].strip()

    def given(self, value: Any) -> Any:
        """The value of the configuration that a component's value stands for."""
        return value if self._plain or self._number else parse_scalar(value)


@cache
def settings() -> tuple[Setting, ...]:
    """Every key of the configuration, in its order."""
    sections = {name: type(value) for name, value in WakewordConfig() if isinstance(value, Section)}
    kinds: dict[str, type[Section]] = {"": WakewordConfig, **sections}
    found = []
    for section, kind in kinds.items():
        schema = kind.model_json_schema()["properties"]
        for name, field in kind.model_fields.items():
            if section or name not in sections:
                found.append(Setting(section, name, field.description or "", schema[name]))
    return tuple(found)


def configuration(values: Sequence[Any]) -> WakewordConfig:
    """The configuration of the values of all components, in the order of `settings`; not checked as a whole."""
    keys: dict[str, Any] = {}
    for setting, value in zip(settings(), values, strict=True):
        (keys.setdefault(setting.section, {}) if setting.section else keys)[setting.name] = setting.given(value)
    return WakewordConfig.from_mapping(keys, check=False)


def values_of(config: WakewordConfig) -> list[Any]:
    """The values of all components."""
    return [setting.shown(config) for setting in settings()]


def panel(project: Project, page: gr.Blocks) -> list[gr.components.Component]:
    """Draw the panel, and return the components of `settings`."""
    with gr.Row():
        source = gr.Dropdown(label="Preset or file", elem_id="preset", scale=3)
        message = gr.Markdown(elem_id="configuration-message")
    components: dict[str, gr.components.Component] = {}
    sections = dict.fromkeys(setting.section for setting in settings())
    below = {name: title for parts in BELOW.values() for name, title in parts.items()}
    with gr.Tabs():
        for section in sections:
            if section in below:
                continue
            with gr.Tab(TITLES.get(section, section.title() if section else GENERAL)):
                components |= _draw(section)
                for name, title in BELOW.get(section, {}).items():
                    with gr.Accordion(title, open=True):
                        components |= _draw(name)
    fields = [components[setting.key] for setting in settings()]
    with gr.Accordion("YAML", open=False):
        yaml = gr.Code(
            language="yaml", interactive=False, show_label=False, elem_id="yaml", buttons=["copy", "download"]
        )

    def judged(config: WakewordConfig) -> str:
        """What to tell of a configuration, which is kept where its values can be used at all."""
        project.keep_draft(config)
        project.check_paths(config)
        config.check()
        return f"{config.config_name}: every value is in its range, and they fit together"

    def changed(*values: Any) -> tuple[Any, str]:
        try:
            config = configuration(values)
        except EdgewakeError as error:
            return gr.skip(), f"**wrong**: {error}"
        try:
            return config.to_yaml(), judged(config)
        except EdgewakeError as error:
            return config.to_yaml(), f"**wrong**: {error}"

    def shown(config: WakewordConfig) -> list[Any]:
        values = values_of(config)
        return [*values, *changed(*values)]

    def load(name: str) -> list[Any]:
        return shown(
            get_preset(name) if name in list_presets() else WakewordConfig.load(project.inside(name), check=False)
        )

    def restore() -> list[Any]:
        presets = [(f"{name}: {about}", name) for name, about in list_presets().items()]
        files = [(name, name) for name in project.configurations()]
        return [gr.update(choices=presets + files, value=None), *shown(project.draft())]

    outputs = [*fields, yaml, message]
    gr.on([field.input for field in fields], changed, fields, [yaml, message], trigger_mode="always_last", **QUIET)
    source.input(told(load), source, outputs, **QUIET)
    page.load(told(restore), None, [source, *outputs], **QUIET)
    return fields


# No blinking; and the 180 fields are no interface for programs, which have the command line.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _draw(section: str) -> dict[str, gr.components.Component]:
    """The components of a section, those that the guide names first."""
    mine = [setting for setting in settings() if setting.section == section]
    with gr.Row(elem_classes="settings"):
        return {one.key: one.component() for one in sorted(mine, key=lambda one: one.key not in LABELS)}
