package netns

import (
	"errors"
	"fmt"
	"os"
)

// selfArgument stands on the command line of a program that the zero Backend starts as an agent, before the
// configuration.
const selfArgument = "cnitest-agent"

// Main is the body of TestMain in a test binary that uses the zero Backend. Started as an agent, the binary serves as
// one; else Main runs the tests. It does not return. A program that is no test calls it with what it does as Run.
func Main(m interface{ Run() int }) {
	if !startedByItself() {
		os.Exit(m.Run())
	}
	if err := ChildMain(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// command starts an agent.
func (b *Backend) command() []string {
	if len(b.Command) > 0 {
		return b.Command
	}
	// The path outlives a replacement of the binary during a run.
	return []string{"/proc/self/exe", selfArgument}
}

func startedByItself() bool { return len(os.Args) == 3 && os.Args[1] == selfArgument }

// forgotten says that this process was meant to be an agent. Without an end here a test binary would start itself for
// ever. The error goes to the standard error too, where the process that waits for the agent finds it.
func forgotten() error {
	if !startedByItself() {
		return nil
	}
	err := errors.New("netns backend: this program was started as an agent and runs its tests instead; " +
		"add func TestMain(m *testing.M) { netns.Main(m) }, or set Backend.Command")
	fmt.Fprintln(os.Stderr, err)
	return err
}
