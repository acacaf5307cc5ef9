package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/conflist"
)

// networkFlags choose the network of a file, and say what the file does not say about it.
type networkFlags struct {
	name              string
	subnets, gateways []string
	// with names another network, a file or a network of the same file, and other is its content.
	with  string
	other *conflist.File
	// lease is how long leases of the lab's DHCP server last.
	lease time.Duration
	// lan and routers are the parsed flags.
	lan     []netip.Prefix
	routers []netip.Addr
}

func (f *networkFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.name, "network", "", "which network of a file with several NetworkAttachmentDefinitions: NAME "+
		"or NAMESPACE/NAME")
	flags.StringSliceVar(&f.subnets, "subnet", nil, "the LAN's networks, if the file does not name them (the IPAM "+
		"plugin gets addresses elsewhere), or larger ones around its own, e.g. 10.1.0.0/16")
	flags.StringSliceVar(&f.gateways, "gateway", nil, "addresses of the LAN's router, in --subnet (default what the "+
		"file names, or the first of each network)")
	flags.DurationVar(&f.lease, "dhcp-lease", netns.DefaultLease,
		"how long leases of the lab's DHCP server last, if the IPAM plugin is dhcp")
}

// addWith adds the flag of run about another network. Run takes all networks of a file, other commands one.
func (f *networkFlags) addWith(flags *pflag.FlagSet) {
	flags.Lookup("network").Usage += " (default all, one after the other)"
	flags.StringVar(&f.with, "with", "", "another network, a file or one of several NetworkAttachmentDefinitions, to "+
		"which pods on several networks are attached first (default one that the lab makes)")
}

// check reads the flags.
func (f *networkFlags) check() error {
	f.lan, f.routers = nil, nil
	if f.lease < 4*time.Second {
		return fmt.Errorf("--dhcp-lease %s: want 4s or more", f.lease)
	}
	for _, text := range f.subnets {
		prefix, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return fmt.Errorf("--subnet %q: want address/length such as 10.1.0.0/16", text)
		case prefix != prefix.Masked():
			return fmt.Errorf("--subnet %s: it has bits set beyond its length; want %s", text, prefix.Masked())
		}
		f.lan = append(f.lan, prefix)
	}
	for _, text := range f.gateways {
		router, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--gateway %q: want an address such as 10.1.0.1", text)
		}
		f.routers = append(f.routers, router)
	}
	return nil
}

// checkRouters returns an error if no address of --gateway can be that of a machine of the LAN. Some may be for another
// network of the file.
func (f *networkFlags) checkRouters(plan *conflist.Plan) error {
	on := func(router netip.Addr) bool {
		return router.IsLinkLocalUnicast() ||
			slices.ContainsFunc(plan.LAN, func(lan netip.Prefix) bool { return lan.Contains(router) })
	}
	if len(f.routers) == 0 || slices.ContainsFunc(f.routers, on) {
		return nil
	}
	var lan []string
	for _, network := range plan.LAN {
		lan = append(lan, network.Masked().String())
	}
	return fmt.Errorf("--gateway %s: want an address of the LAN, %s; --subnet names a larger one", f.routers[0],
		strings.Join(lan, ", "))
}

// loadOther reads the network of --with: that of a file, or the one of this name in the file that is run.
func (f *networkFlags) loadOther(file string) (err error) {
	if f.with == "" {
		return nil
	}
	if _, statErr := os.Stat(f.with); statErr == nil {
		f.other, err = conflist.Load(f.with)
	} else if f.other, err = conflist.LoadNetwork(file, f.with); err != nil {
		err = fmt.Errorf("--with: no file %s, and %w", f.with, err)
	}
	return err
}

// load reads the chosen network.
func (f *networkFlags) load(file string) (*conflist.File, error) {
	return conflist.LoadNetwork(file, f.name)
}

// networks reads the networks to run: one, or all of a file if none was chosen, except for that of --with.
func (f *networkFlags) networks(file string) ([]*conflist.File, error) {
	if err := f.loadOther(file); err != nil {
		return nil, err
	}
	if f.name == "" {
		all, err := conflist.LoadAll(file)
		if f.other != nil && len(all) > 1 {
			all = slices.DeleteFunc(all, func(n *conflist.File) bool {
				return n.Path == f.other.Path && n.Network == f.other.Network
			})
		}
		if err != nil || len(all) > 0 {
			return all, err
		}
	}
	one, err := f.load(file)
	return []*conflist.File{one}, err
}

// runEach runs the same command line for each network, each in a separate process since Ginkgo runs one suite in a
// process. Reports go to directories with the networks' names in reportDir. The status is the worst one.
func runEach(ctx context.Context, networks []*conflist.File, reportDir string, args []string, out io.Writer) error {
	ctx, stop := untilSignal(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	worst, worstName := 0, ""
	for _, n := range networks {
		name := cmp.Or(n.Definition, n.Network)
		// The end of one run is not the end of all.
		flags := []string{"--network=" + name, "--done="}
		if reportDir != "" {
			flags = append(flags, "--report-dir="+filepath.Join(reportDir, strings.ReplaceAll(name, "/", ".")))
		}
		fmt.Fprintf(out, "network %s\n", name)
		err := runChild(ctx, insertFlags(args, flags), out)
		if s := signalOf(ctx); s != nil {
			return &exitError{s.status(), fmt.Errorf("%w in network %s", s, name)}
		}
		var exit *exitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		if exit != nil && exit.status > worst {
			worst, worstName = exit.status, name
		}
		fmt.Fprintln(out)
	}
	if worst == 0 {
		return nil
	}
	if worst > exitNotConformant {
		return &exitError{worst, fmt.Errorf("network %s: exit status %d", worstName, worst)}
	}
	return &exitError{status: worst}
}

// runChild runs this program again, and returns its outcome as an *exitError.
func runChild(ctx context.Context, args []string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, selfPath, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = childAttributes()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{status: statusOf(exit)}
	}
	return err
}

// childAttributes returns the attributes of a child process. The interrupt of a terminal reaches it through its Cancel,
// once. It dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG), which the caller therefore locks.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
