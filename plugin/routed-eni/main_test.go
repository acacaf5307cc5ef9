package main

import (
	"os"
	"testing"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

// The plugin itself and its daemon, and the upstream plugins that are in a chain with it.
func TestMain(m *testing.M) {
	os.Exit(plugintest.Main(m, map[string]string{
		pluginName: ".", "ipamd": "github.com/cnitest/cnitest/plugin/ipamd",
		"tuning": plugintest.Upstream + "meta/tuning", "sbr": plugintest.Upstream + "meta/sbr",
	}))
}
