"""Find a runner by its name, check it, and make it; list all installed runners, also broken
ones."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import attrs
import pluggy
from attrs import frozen

from axsched_core import options as options_
from axsched_core.config import SchedulerConfig
from axsched_core.errors import (
    AxschedError,
    ContractError,
    InvalidInput,
    RunnerLoadError,
    RunnerNotFound,
    did_you_mean,
    sentence,
)
from axsched_core.hookspecs import ENTRY_POINT_GROUP, PROJECT, DiscoverySpec, hook_names
from axsched_core.jobs import API_VERSION, Check, RunnerInfo
from axsched_core.runners import answers


@frozen
class Installed:
    """One entry point of the group ``axsched.runners``; nothing is imported yet."""

    name: str
    module: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@frozen
class Loaded:
    """A plugin that was imported and checked."""

    installed: Installed
    info: RunnerInfo
    manager: pluggy.PluginManager

    def options(self, values: Any) -> Any:
        """Check ``runner_options``; None if the runner takes none."""
        what = f"runner_options of {self.info.name!r}"
        if self.info.options_class is None:
            if values:
                raise InvalidInput(
                    f"{what}: this runner takes no options, got {', '.join(values)}."
                )
            return None
        others = {"config": attrs.fields_dict(SchedulerConfig)}
        return options_.build(self.info.options_class, values, what, others=others)

    @property
    def option_names(self) -> Sequence[str]:
        """The keys of its ``runner_options``."""
        cls = self.info.options_class
        return () if cls is None else [one.alias for one in attrs.fields(cls)]

    def make_runner(self, values: Any) -> object:
        """Make a runner with these ``runner_options``."""
        options = self.options(values)
        try:
            runner = self.manager.hook.axsched_make_runner(options=options)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            given = self.info.options_class, values, options
            words, cause = options_.mask(str(error), *given), options_.shown(error, *given)
            if isinstance(error, AxschedError):
                if cause is None:
                    error.args = (words,)
                    raise error from None
                raise
            raise RunnerLoadError(
                f"Runner {self.info.name!r} ({self.installed}) could not be made: "
                f"{type(error).__name__}: {sentence(words)}"
            ) from cause
        if runner is None:
            raise ContractError(
                f"Runner {self.info.name!r} ({self.installed}): axsched_make_runner returned None "
                "instead of a runner. This is a fault of the plugin; tell its authors."
            )
        return runner

    def diagnose(self, values: Any) -> Sequence[Check]:
        """The plugin's own checks of its backend; empty if it has none.

        Raises:
            ContractError: it returned a wrong value.
        """
        checks = self.manager.hook.axsched_diagnose(options=self.options(values)) or ()
        if not isinstance(checks, Sequence) or not all(isinstance(one, Check) for one in checks):
            raise ContractError(
                f"Runner {self.info.name!r} ({self.installed}): axsched_diagnose must return a "
                f"list of Check, but returned {answers.shown(checks)}. This is a fault of the "
                "plugin; tell its authors."
            )
        return checks


def installed() -> list[Installed]:
    """All runners that installed distributions offer, by name, without importing any."""
    found = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        dist = entry.dist
        one = Installed(
            name=entry.name,
            module=entry.value,
            distribution=dist.name if dist else "unknown",
            version=dist.version if dist else "?",
            entry_point=entry,
        )
        # An editable install may show the same distribution twice on sys.path.
        found[one.name, one.module, one.distribution] = one
    return sorted(found.values(), key=lambda one: (one.name, one.distribution))


def find(name: str) -> Installed:
    """Find the one distribution that offers the runner ``name``.

    Raises:
        RunnerNotFound: none does; the message names the installed runners, the closest match and
            what to install.
        RunnerLoadError: more than one does; the message names them.
    """
    everything = installed()
    matching = [one for one in everything if one.name == name]
    if not matching:
        names = sorted({one.name for one in everything})
        raise RunnerNotFound(
            f"No installed package offers a runner named {name!r}. Installed runners: "
            f"{', '.join(names) or 'none'}.{_remedy(name, names)}"
        )
    if len(matching) > 1:
        offers = " and ".join(f"{one} ({one.module})" for one in matching)
        raise RunnerLoadError(
            f"More than one installed package offers a runner named {name!r}: {offers}. "
            f"Uninstall all but one: pip uninstall {matching[-1].distribution}"
        )
    return matching[0]


OURS = ("docker", "joblib", "slurm")
"""The runners of this project. A line to install is only given for them: a stranger may have
published a package with any other name, and above all with a misspelt one."""


def _remedy(name: str, names: Sequence[str]) -> str:
    """What to do if no package offers the runner ``name``; ``names`` are installed."""
    if name in OURS:
        return f" To install it: pip install axsched-{name}"
    return did_you_mean(name, sorted({*names, *OURS}))


def load(name: str) -> Loaded:
    """Import the plugin that offers the runner ``name``, and check it.

    Raises:
        RunnerNotFound, RunnerLoadError: see `find`; or the import failed.
        ContractError: it breaks the contract.
    """
    return check(find(name))


def check(one: Installed) -> Loaded:
    """Import one plugin and check it as far as possible without making a runner.

    Any error in the plugin, even `sys.exit`, becomes an error of ours: a broken plugin must not
    prevent others from being found.

    Raises:
        RunnerLoadError: it cannot be imported.
        ContractError: it breaks the contract.
    """
    who = f"Runner {one.name!r} ({one})"
    try:
        module = one.entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RunnerLoadError(
            f"{who} is installed but cannot be imported: "
            f"{type(error).__name__}: {sentence(error)} Reinstall it with its dependencies: "
            f"pip install --force-reinstall {one.distribution}"
        ) from error
    if not isinstance(module, ModuleType):
        raise ContractError(
            f"{who}: the entry point {one.module!r} is not a module. It must name the module "
            "that implements axsched_runner_info and axsched_make_runner."
        )
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(DiscoverySpec)
    register(manager, module, who, hook_names(DiscoverySpec))
    require(manager, ("axsched_runner_info", "axsched_make_runner"), who)
    try:
        info = manager.hook.axsched_runner_info()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ContractError(
            f"{who}: axsched_runner_info raised {type(error).__name__}: {sentence(error)} "
            "This is a fault "
            f"of the plugin; tell its authors, or remove it: pip uninstall {one.distribution}"
        ) from error
    check_info(info, who)
    if info.name != one.name:
        raise ContractError(
            f"{who}: it calls itself {info.name!r}, but its entry point is named {one.name!r}; "
            "the two must be equal. This is a fault of the plugin; tell its authors."
        )
    return Loaded(one, info, manager)


def hookimpl_names(plugin: object) -> list[str]:
    """The names of the axsched hooks that ``plugin`` implements (marked with ``hookimpl``)."""
    names = []
    for name in dir(plugin):
        # Only our names are checked: evaluating a property may have any effect.
        if name.startswith("axsched_"):
            marked = getattr(getattr(plugin, name, None), f"{PROJECT}_impl", None)
            if isinstance(marked, dict):
                names.append(name)
    return names


def unmarked_names(plugin: object, known: Sequence[str]) -> list[str]:
    """Methods with names of hooks but without the ``hookimpl`` mark."""
    implemented = hookimpl_names(plugin)
    return [name for name in known if hasattr(plugin, name) and name not in implemented]


def register(manager: pluggy.PluginManager, plugin: object, who: str, known: Sequence[str]) -> None:
    """Register ``plugin``; refuse hooks that do not exist and signatures that do not fit."""
    for name in hookimpl_names(plugin):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ContractError(
                f"{who}: there is no hook named {name!r}."
                + (f" Did you mean {close[0]!r}?" if close else "")
                + f" Hooks that it may implement: {', '.join(known)}."
            )
        if inspect.iscoroutinefunction(getattr(plugin, name)):
            raise ContractError(
                f"{who}: {name} is an `async def`; hooks are plain functions. "
                "Run the coroutine inside the hook (asyncio.run) instead."
            )
    if type(plugin).__hash__ is None:
        # pluggy compares plugins by ==, so it would treat two equal ones as one.
        raise ContractError(
            f"{who}: {type(plugin).__name__} compares by value and so cannot be told apart from "
            "another; an attrs or data class needs eq=False."
        )
    try:
        manager.register(plugin)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise ContractError(f"{who}: {error}") from error


def require(manager: pluggy.PluginManager, hooks: Sequence[str], who: str) -> None:
    """Raise `ContractError` if one of ``hooks`` has no implementation (pluggy would not)."""
    missing = [name for name in hooks if not getattr(manager.hook, name).get_hookimpls()]
    if not missing:
        return
    hints = [
        f" {name} is defined but not marked with @hookimpl."
        for plugin in manager.get_plugins()
        for name in unmarked_names(plugin, missing)
    ]
    raise ContractError(
        f"{who} lacks the hook{'s' if len(missing) > 1 else ''} {', '.join(missing)}."
        f"{''.join(hints)} This is a fault of the plugin; update it or tell its authors."
    )


def check_info(info: Any, who: str) -> None:
    """Check what a runner says about itself, the API version first."""
    if not isinstance(info, RunnerInfo):
        raise ContractError(
            f"{who}: axsched_runner_info returned {type(info).__name__}, not a RunnerInfo."
        )
    try:
        major, minor = map(int, info.api_version)
    except (TypeError, ValueError):
        raise ContractError(
            f"{who}: its api_version is {info.api_version!r}, not (major, minor). "
            "This is a fault of the plugin; tell its authors."
        ) from None
    core = f"axsched-core {importlib.metadata.version('axsched-core')}"
    speaks = f"{core} speaks {API_VERSION[0]}.{API_VERSION[1]}"
    if major != API_VERSION[0]:
        raise ContractError(
            f"{who} was written for version {major}.{minor} of the runner API, but {speaks}. "
            "Either upgrade the plugin (pip install --upgrade), or install an axsched-core "
            f"that speaks {major}.x."
        )
    if minor > API_VERSION[1]:
        raise ContractError(
            f"{who} needs version {major}.{minor} of the runner API, but {speaks}. "
            "Upgrade the core: pip install --upgrade axsched-core"
        )


def plugin_name(plugin: object) -> str:
    """A plugin's name for messages."""
    named = getattr(plugin, "__name__", None) or type(plugin).__qualname__
    return str(named)
