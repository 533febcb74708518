"""Mount options, mount points and mount(2) itself."""
