package main

import (
	"os"
	"testing"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// The plugin itself, and the upstream plugins that are in its chains.
func TestMain(m *testing.M) {
	os.Exit(plugintest.Main(m, map[string]string{
		pluginName: ".", "macvlan": plugintest.Upstream + "main/macvlan", "host-local": plugintest.Upstream +
			"ipam/host-local",
	}))
}
