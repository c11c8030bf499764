"""The plugins that watch a run, and how they get events."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pluggy

from axsched_core.errors import ContractError, InvalidInput
from axsched_core.events import Event
from axsched_core.hookspecs import PROJECT, ObserverSpec, RunnerSpec, hook_names
from axsched_core.runners import discovery
from axsched_core.runners.discovery import plugin_name

log = logging.getLogger("axsched")


class Observers:
    """The plugins that watch; an error in one of them is only logged."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(ObserverSpec)

    def register(self, observer: object) -> None:
        """Add an observer."""
        known = (*hook_names(RunnerSpec), *hook_names(ObserverSpec))
        discovery.register(self._manager, observer, f"Plugin {plugin_name(observer)}", known)

    def notify(self, event: Event) -> None:
        """Give an event to every observer, the first registered first."""
        # Called one by one: in one pluggy call, the first that raises would skip the rest.
        for impl in self._manager.hook.axsched_on_event.get_hookimpls():
            try:
                impl.function(event=event)
            except BaseException:
                # sys.exit() and pytest.fail() in an observer do not end the run either.
                name = type(event).__name__
                log.exception("Observer %s failed on %s.", plugin_name(impl.plugin), name)


def split_plugins(given: Sequence[object]) -> tuple[list[object], list[object]]:
    """Sort the user's plugins into wrappers of runner hooks and observers (one may be both)."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidInput(
            f"plugins must be a list, not {type(given).__name__}: for one plugin, write [plugin]."
        )
    runner_hooks, observer_hooks = set(hook_names(RunnerSpec)), set(hook_names(ObserverSpec))
    wrappers, observers = [], []
    for plugin in given:
        names = set(discovery.hookimpl_names(plugin))
        if isinstance(plugin, type) or not names:
            raise ContractError(
                f"Plugin {plugin_name(plugin)} has no hook: plugins are instances (or modules) "
                "whose methods are marked with axsched_core.hookimpl."
            )
        if names & observer_hooks:
            observers.append(plugin)
        if names - observer_hooks or not names & (runner_hooks | observer_hooks):
            wrappers.append(plugin)
    return wrappers, observers
