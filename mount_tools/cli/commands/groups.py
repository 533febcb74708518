"""The groups `pyunion image`, `container`, `system` and `volume`, and the commands in them."""

from __future__ import annotations

from mount_tools.cli.framework import Group

IMAGE = {
    "import": "import_cmd.import_",
    "load": "load_cmd.load",
    "save": "save_cmd.save",
    "history": "history_cmd.history",
    "inspect": "inspect_cmd.inspect_image",
    "ls": "images_cmd.images",
    "list": "images_cmd.images",
    "prune": "prune_cmd.prune_images",
    "pull": "pull_cmd.pull",
    "push": "push_cmd.push",
    "rm": "rmi_cmd.rmi",
    "tag": "tag_cmd.tag",
}
CONTAINER = {
    "exec": "exec_cmd.exec_",
    "run": "run_cmd.run",
    "start": "start_cmd.start",
    "stop": "stop_cmd.stop",
    "attach": "attach_cmd.attach",
    "kill": "kill_cmd.kill",
    "logs": "logs_cmd.logs",
    "rename": "rename_cmd.rename",
    "restart": "kill_cmd.restart",
    "restore": "restore_cmd.restore",
    "wait": "attach_cmd.wait",
    "commit": "commit_cmd.commit",
    "export": "export_cmd.export",
    "cp": "cp_cmd.cp",
    "create": "create_cmd.create",
    "diff": "diff_cmd.diff",
    "inspect": "inspect_cmd.inspect_container",
    "ls": "ps_cmd.ps",
    "list": "ps_cmd.ps",
    "pause": "pause_cmd.pause",
    "prune": "prune_cmd.prune_containers",
    "rm": "rm_cmd.rm",
    "top": "top_cmd.top",
    "unpause": "pause_cmd.unpause",
}
SYSTEM = {
    "df": "df_cmd.df",
    "info": "info_cmd.info",
    "prune": "prune_cmd.prune",
}

VOLUME = {
    "create": "volume_cmd.create",
    "inspect": "volume_cmd.inspect",
    "ls": "volume_cmd.ls",
    "list": "volume_cmd.ls",
    "prune": "volume_cmd.prune",
    "rm": "volume_cmd.rm",
}

image = Group("image", "Manage images", IMAGE)
container = Group("container", "Manage containers", CONTAINER)
system = Group("system", "Manage the store", SYSTEM)
volume = Group("volume", "Manage volumes", VOLUME)
