"""Open a union: which kind of `UnionFs` its layers and options ask for."""

from __future__ import annotations

from unionfs.core.ahead import Start
from unionfs.core.config import OverrideStat, UnionConfig
from unionfs.core.files_ahead import FilesAhead
from unionfs.core.setup import open_state
from unionfs.core.stage_ahead import work_ahead
from unionfs.core.union import UnionFs


def open_union(config: UnionConfig, background: Start | None = None) -> UnionFs:
    """Open the union that `config` describes; `background` starts a thread, see `core.ahead`.

    Raises `ConfigError` if that is not possible; nothing on disk is changed then.
    """
    state = open_state(config)
    remote = any(layer.remote for layer in (*state.stack(), *state.data))
    if remote:
        state.gate.patient = False
    else:
        if state.layers_immutable:
            state.files_ahead = FilesAhead()
        if background is not None:
            work_ahead(state, background)
    if config.override is not OverrideStat.NONE:
        from unionfs.core.override_union import OverrideUnion, RemoteOverrideUnion

        return RemoteOverrideUnion(state) if remote else OverrideUnion(state)
    if remote:
        from unionfs.core.remote import RemoteUnion

        return RemoteUnion(state)
    return UnionFs(state)
