"""What the help of a group says of its members; `mount_tools.manual` writes it."""

from __future__ import annotations

SUMMARIES = {
    "attach_cmd.attach": (
        "Attach local standard input, output, and error streams to a running container"
    ),
    "attach_cmd.wait": "Block until one or more containers stop, then print their exit codes",
    "build_cmd.build": "Build an image from a Containerfile",
    "check_cmd.check": "Check every blob, layer, image and container of the store",
    "commit_cmd.commit": "Create a new image from a container's changes",
    "copy_cmd.copy": "Copy an image between registries and archives",
    "cp_cmd.cp": "Copy files or folders between a container and the local filesystem",
    "create_cmd.create": "Create a new container",
    "df_cmd.df": "Show disk usage of the store",
    "diff_cmd.diff": (
        "Inspect changes to files or directories on a container's filesystem, or between images"
    ),
    "engine_check_cmd.engine_check": (
        "Mount a scratch union and print what works for container engines on this machine"
    ),
    "exec_cmd.exec_": "Run a command in a running container",
    "export_cmd.export": "Export a container's filesystem as a tar archive",
    "groups.container": "Manage containers",
    "groups.image": "Manage images",
    "groups.system": "Manage the store",
    "groups.volume": "Manage volumes",
    "history_cmd.history": "Show the history of an image",
    "images_cmd.images": "List images",
    "import_cmd.import_": (
        "Import the contents from a tarball or a directory to create a filesystem image"
    ),
    "info_cmd.info": "Display information about the store",
    "info_cmd.version": "Show the versions of PyUnion, Python and the kernel",
    "inspect_cmd.inspect": "Return low-level information on objects",
    "inspect_cmd.inspect_container": "Display detailed information on one or more containers",
    "inspect_cmd.inspect_image": "Display detailed information on one or more images",
    "kill_cmd.kill": "Kill one or more running containers",
    "kill_cmd.restart": "Restart one or more containers",
    "layers_cmd.layers": "Show layers as a tree, with the images and containers on each",
    "load_cmd.load": "Load an image from a tar archive or STDIN",
    "login_cmd.login": "Log in to a registry",
    "login_cmd.logout": "Log out from a registry",
    "logs_cmd.logs": "Fetch the logs of a container",
    "mount_cmd.mount": "Mount a container's filesystem on a directory",
    "mount_cmd.umount": "Unmount one or more containers",
    "offer_cmd.offer": (
        "Let podman and buildah use images of the store, without a copy of their layers"
    ),
    "pause_cmd.pause": "Pause all processes within one or more containers",
    "pause_cmd.unpause": "Unpause all processes within one or more containers",
    "port_cmd.port": "List the ports that a container publishes",
    "prune_cmd.prune": "Remove stopped containers, unused images and layers",
    "prune_cmd.prune_containers": "Remove all stopped containers",
    "prune_cmd.prune_images": "Remove unused images",
    "ps_cmd.ps": "List containers",
    "pull_cmd.pull": "Download an image from a registry",
    "push_cmd.push": "Upload an image to a registry",
    "rename_cmd.rename": "Rename a container",
    "restore_cmd.restore": "Undo a container's changes to paths, so that they are as in its image",
    "rm_cmd.rm": "Remove one or more containers",
    "rmi_cmd.rmi": "Remove one or more images",
    "run_cmd.run": "Run a command in a new container",
    "save_cmd.save": "Save one or more images to a tar archive (streamed to STDOUT by default)",
    "search_cmd.search": "Search a registry for images",
    "start_cmd.start": "Start one or more stopped containers",
    "stop_cmd.stop": "Stop one or more running containers",
    "tag_cmd.tag": "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    "top_cmd.top": "Display the running processes of a container",
    "volume_cmd.create": "Create a volume",
    "volume_cmd.inspect": "Display detailed information on one or more volumes",
    "volume_cmd.ls": "List volumes",
    "volume_cmd.prune": "Remove all unused local volumes",
    "volume_cmd.rm": "Remove one or more volumes",
    "which_cmd.which": "Show the layer that provides a path, and the layers below that have it too",
}
"""By `module.attribute` in `mount_tools.cli.commands`."""
