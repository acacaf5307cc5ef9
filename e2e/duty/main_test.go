package duty_test

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/backend/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }
