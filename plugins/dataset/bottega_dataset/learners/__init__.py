"""The learners that come with the plugin, each a plugin of its own that can be switched off."""
