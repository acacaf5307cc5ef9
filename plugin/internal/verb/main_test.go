package verb

import (
	"os"
	"testing"

	"github.com/cnitest/cnitest/plugin/internal/plugintest"
)

func TestMain(m *testing.M) { os.Exit(plugintest.Main(m, nil)) }
