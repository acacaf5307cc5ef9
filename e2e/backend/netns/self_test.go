package netns_test

import (
	"strings"
	"testing"

	"github.com/cnitest/cnitest/e2e/backend/netns"
)

// forgetsEnv makes the binary behave like one whose TestMain does not call netns.Main.
const forgetsEnv = "CNITEST_TEST_FORGETS_MAIN"

// selfMain is a program that the zero Backend started: an agent if it calls Main, otherwise a program that starts
// another cluster.
type selfMain struct{}

func (selfMain) Run() int { return 1 }

// The zero Backend starts this binary. If the binary does not call Main, the error says so.
func TestSelf(t *testing.T) {
	start := func() error {
		c, err := (&netns.Backend{}).Start(ctx(t), request(t, macvlanConflist, 1))
		if err != nil {
			return err
		}
		return c.Close()
	}
	check(t, start())
	t.Setenv(forgetsEnv, "yes")
	err := start()
	// It is preceded by an error of the connection, which depends on the output of such a binary.
	want := `: netns backend: this program was started as an agent and runs its tests instead; ` +
		`add func TestMain(m *testing.M) { netns.Main(m) }, or set Backend.Command`
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want an error that ends in %q", err, want)
	}
}
