"""The groups `pyunion image`, `container`, `system` and `volume`, and the commands in them."""

from __future__ import annotations

from mount_tools.cli.framework import Group

IMAGE = {
    "build": "build_cmd.build",
    "history": "history_cmd.history",
    "import": "import_cmd.import_",
    "inspect": "inspect_cmd.inspect_image",
    "list": "images_cmd.images",
    "load": "load_cmd.load",
    "ls": "images_cmd.images",
    "prune": "prune_cmd.prune_images",
    "pull": "pull_cmd.pull",
    "push": "push_cmd.push",
    "rm": "rmi_cmd.rmi",
    "save": "save_cmd.save",
    "tag": "tag_cmd.tag",
}
CONTAINER = {
    "attach": "attach_cmd.attach",
    "commit": "commit_cmd.commit",
    "cp": "cp_cmd.cp",
    "create": "create_cmd.create",
    "diff": "diff_cmd.diff",
    "exec": "exec_cmd.exec_",
    "export": "export_cmd.export",
    "inspect": "inspect_cmd.inspect_container",
    "kill": "kill_cmd.kill",
    "list": "ps_cmd.ps",
    "logs": "logs_cmd.logs",
    "ls": "ps_cmd.ps",
    "pause": "pause_cmd.pause",
    "port": "port_cmd.port",
    "prune": "prune_cmd.prune_containers",
    "rename": "rename_cmd.rename",
    "restart": "kill_cmd.restart",
    "restore": "restore_cmd.restore",
    "rm": "rm_cmd.rm",
    "run": "run_cmd.run",
    "start": "start_cmd.start",
    "stop": "stop_cmd.stop",
    "top": "top_cmd.top",
    "unpause": "pause_cmd.unpause",
    "wait": "attach_cmd.wait",
}
SYSTEM = {
    "df": "df_cmd.df",
    "info": "info_cmd.info",
    "prune": "prune_cmd.prune",
}
VOLUME = {
    "create": "volume_cmd.create",
    "inspect": "volume_cmd.inspect",
    "list": "volume_cmd.ls",
    "ls": "volume_cmd.ls",
    "prune": "volume_cmd.prune",
    "rm": "volume_cmd.rm",
}

image = Group("image", "Manage images", IMAGE)
container = Group("container", "Manage containers", CONTAINER)
system = Group("system", "Manage the store", SYSTEM)
volume = Group("volume", "Manage volumes", VOLUME)
