package main

import (
	"os"
	"testing"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// The plugin itself, and the upstream plugins that are in a chain with it.
func TestMain(m *testing.M) {
	os.Exit(plugintest.Main(m, map[string]string{
		pluginName: ".", "macvlan": plugintest.Upstream + "main/macvlan", "host-local": plugintest.Upstream +
			"ipam/host-local",
		"tuning": plugintest.Upstream + "meta/tuning", "sbr": plugintest.Upstream + "meta/sbr",
	}))
}
