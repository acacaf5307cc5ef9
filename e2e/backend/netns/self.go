package netns

import (
	"errors"
	"fmt"
	"os"
)

// selfArgument is on the command line of a program that the zero Backend starts as an agent, before the configuration.
const selfArgument = "cnitest-agent"

// Main takes the place of m.Run in the TestMain of a test binary that uses the zero Backend. If the binary was started
// as an agent, Main serves as the agent, otherwise it runs the tests. It does not return. A program that is not a test
// passes its main function as Run.
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

// command returns the command that starts an agent.
func (b *Backend) command() []string {
	if len(b.Command) > 0 {
		return b.Command
	}
	// This path works even if the binary is replaced during a run.
	return []string{"/proc/self/exe", selfArgument}
}

func startedByItself() bool { return len(os.Args) == 3 && os.Args[1] == selfArgument }

// forgotten returns an error if this process was started as an agent and does not call Main. Without the error a test
// binary would start itself again and again. It also prints the error to standard error, where the process that waits
// for the agent finds it.
func forgotten() error {
	if !startedByItself() {
		return nil
	}
	err := errors.New("netns backend: this program was started as an agent and runs its tests instead; " +
		"add func TestMain(m *testing.M) { netns.Main(m) }, or set Backend.Command")
	fmt.Fprintln(os.Stderr, err)
	return err
}
