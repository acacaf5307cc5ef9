// Command vmrun runs a program on a stock Debian kernel, in a virtual machine that boots in seconds and is discarded
// afterwards:
//
//	go test -exec "$PWD/bin/vmrun" ./e2e/snapshot
//	bin/vmrun bin/cnitest doctor
//
// The machine's first process is vmrun again (guest.go). The program is its child, with the working directory, the
// arguments, the environment and the exit status that it would have here. It finds under their usual paths: itself, the
// directory testdata, files and directories that its arguments name, and those that --with names. There is no shell, no
// other program, and no network. Modules of the kernel are loaded on demand, as on other machines (modprobe.go).
//
// It is for features that this machine's kernel lacks: dummy, ipvlan, vlan and vrf links, netem, IPVS. It does not test
// other distributions, hardware, or several machines at the same time; the ssh backend does.
//
// It needs QEMU and, once for each kernel, apt-get and dpkg-deb: `vmrun --fetch` gets both. It uses KVM if a first
// machine comes up with KVM, which it tries once for each boot of this machine; otherwise QEMU emulates the processor,
// which takes 15 times as long.
//
// Run its tests: go test ./e2e/vmrun (tests that need QEMU and a kernel are skipped without them).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// The exit statuses that are not the program's own. timeout(1) and env(1) use the same.
const (
	exitDeadline = 124
	exitOwn      = 125
)

func main() {
	if os.Getpid() == 1 {
		guestMain()
	}
	if filepath.Base(os.Args[0]) == modprobeName {
		os.Exit(modprobe(os.Args[1:]))
	}
	// The machine is killed when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG), so the thread must stay.
	runtime.LockOSThread()
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmrun:", err)
	}
	os.Exit(status)
}

// options are the options of the command line.
type options struct {
	kernel, accel string
	memory, cpus  int
	timeout       time.Duration
	with, back    paths
	fetch         bool
	console       bool
	program       []string
}

// paths is a flag that may be repeated.
type paths []string

func (p *paths) String() string { return strings.Join(*p, ",") }

// Set adds a path.
func (p *paths) Set(path string) error {
	*p = append(*p, path)
	return nil
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("vmrun", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.kernel, "kernel", orDefault(os.Getenv("KERNEL"), defaultKernel),
		"Debian `package` of the kernel, or $KERNEL")
	flags.StringVar(&o.accel, "accel", orDefault(os.Getenv("CNITEST_ACCEL"), "auto"),
		"kvm, tcg, or auto: KVM where it works; or $CNITEST_ACCEL")
	flags.IntVar(&o.memory, "memory", 1024, "of the machine, in `MiB`")
	flags.IntVar(&o.cpus, "cpus", 2, "of the machine")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "after which the machine is killed")
	flags.Var(&o.with, "with", "further `path` to take along; may be repeated")
	flags.Var(&o.back, "back", "`directory` whose files are brought back from the machine; may be repeated")
	flags.BoolVar(&o.fetch, "fetch", false, "get QEMU and the kernel where they are missing, and run nothing")
	flags.BoolVar(&o.console, "console", false, "show the kernel's console on standard error")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("vmrun [FLAGS] PROGRAM [ARG...] runs a static program on a stock kernel of Debian's, in a " +
			"virtual machine.")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return nil, flag.ErrHelp
	}
	if err != nil {
		return nil, err
	}
	o.program = flags.Args()
	switch {
	case runtime.GOARCH != "amd64":
		return nil, fmt.Errorf("this machine is %s: vmrun boots kernels for amd64 only", runtime.GOARCH)
	case o.accel != "auto" && o.accel != "kvm" && o.accel != "tcg":
		return nil, fmt.Errorf("--accel %q: want auto, kvm or tcg", o.accel)
	case o.fetch && len(o.program) > 0:
		return nil, errors.New("--fetch with a program: want one of them")
	case !o.fetch && len(o.program) == 0:
		return nil, errors.New("want a program to run; see vmrun --help")
	}
	return o, nil
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// run returns the exit status, and an error if it is not the program's.
func run(args []string) (int, error) {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	if err != nil {
		return exitOwn, err
	}
	// The go command sends SIGQUIT to a test that takes too long (go help testflag, -timeout).
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT,
		syscall.SIGHUP)
	defer stop()
	store, err := openStore()
	if err != nil {
		return exitOwn, err
	}
	if o.fetch {
		if err := fetch(ctx, store, o.kernel); err != nil {
			return exitOwn, err
		}
		return 0, nil
	}
	if err := findQEMU(); err != nil {
		return exitOwn, err
	}
	k, err := store.kernel(ctx, o.kernel)
	if err != nil {
		return exitOwn, err
	}
	accel := o.accel
	if accel == "auto" {
		if accel, err = store.accelerator(ctx, k); err != nil {
			return exitOwn, err
		}
	}
	work, err := pack(k, o)
	if err != nil {
		return exitOwn, err
	}
	defer work.Close()
	m := machine{
		kernel: k, accel: accel, memory: o.memory, cpus: o.cpus, initrd: work, stdout: os.Stdout, stderr: os.Stderr,
	}
	if o.console {
		m.console = os.Stderr
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, &deadlineError{o.timeout})
	defer cancel()
	status, err := m.run(ctx)
	var late *deadlineError
	if errors.As(err, &late) {
		return exitDeadline, fmt.Errorf("%s: %w", o.program[0], err)
	}
	if err != nil {
		return exitOwn, fmt.Errorf("%s: %w", o.program[0], err)
	}
	return status, nil
}

// fetch downloads missing parts.
func fetch(ctx context.Context, s *store, name string) error {
	_, err := s.kernel(ctx, name)
	return errors.Join(needQEMU(ctx), err)
}

// deadlineError means that a machine took too long.
type deadlineError struct{ after time.Duration }

func (e *deadlineError) Error() string { return fmt.Sprintf("not over after %s: killed", e.after) }
