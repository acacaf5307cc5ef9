package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// linksTried is the largest number of files, and of a daemon's files, in whose place there is a link.
const linksTried = 8

// making is what a program was seen to make: files by their paths, the directories of the attachment, and the names
// that files got in the end.
type making struct{ files, dirs, final []string }

// note adds what points of programs make.
func (m *making) note(points []fault.Point, by func(program string) bool, p *pod) {
	put := func(list *[]string, path string) {
		// A plugin may open the pod's namespace as if it were to make it.
		leaveOut := path == p.netns || isLog(snapshot.Item{Kind: snapshot.File, Name: path})
		if !leaveOut && !slices.Contains(*list, path) && len(*list) < linksTried {
			*list = append(*list, path)
		}
	}
	for _, point := range points {
		verb, rest, _ := strings.Cut(point.What, " ")
		switch {
		case !by(point.Program) || point.Error != "" && point.Error != "EEXIST":
		case verb == "create" && strings.HasPrefix(rest, "/"):
			put(&m.files, rest)
			put(&m.final, rest)
		case verb == "rename":
			if _, to, ok := strings.Cut(rest, " → "); ok {
				put(&m.final, to)
			}
		case verb == "mkdir" && strings.Contains(filepath.Base(rest), p.id):
			put(&m.dirs, rest)
		}
	}
}

// astray is a link in the place of a file.
type astray struct{ path, target string }

func (l astray) String() string {
	kind := "a file of others"
	switch l.target {
	case othersMissing:
		kind = "a file that is missing"
	case othersSubdir:
		kind = "a directory of others"
	}
	return fmt.Sprintf("a link to %s (%s) in the place of %s", kind, l.target, l.path)
}

// links returns the links that may be in the place of what a program makes.
func (m *making) links() (all []astray) {
	for _, path := range m.files {
		all = append(all, astray{path, othersFile}, astray{path, othersMissing})
	}
	for _, path := range m.dirs {
		all = append(all, astray{path, othersSubdir})
	}
	return all
}

// lay makes a link.
func (b *bench) lay(ctx context.Context, l astray) error {
	return b.node.Agent.WriteFile(ctx, agent.File{Path: l.path, Mode: fs.ModeSymlink, Data: []byte(l.target)})
}

func checkLinksAstray(ctx context.Context, t *trial) error {
	own, daemon, err := t.making(ctx)
	if err != nil {
		return err
	}
	if len(own.files)+len(own.dirs)+len(daemon.files) == 0 {
		return notApplicable("neither ADD and DEL nor a daemon make files")
	}
	for _, l := range own.links() {
		if err := t.meetsLink(ctx, l, false); err != nil {
			return err
		}
	}
	for _, l := range daemon.links() {
		if err := t.meetsLink(ctx, l, true); err != nil {
			return err
		}
	}
	return t.endsAmongLinks(ctx, own)
}

// making returns what the plugin makes, without those to whom it delegates, and what its daemon makes.
func (t *trial) making(ctx context.Context) (own, daemon making, err error) {
	b, err := t.traceable(ctx)
	if err != nil {
		return own, daemon, err
	}
	p, err := b.pod(ctx, "first")
	if err != nil {
		return own, daemon, err
	}
	others, err := b.otherPlugins(ctx)
	if err != nil {
		return own, daemon, err
	}
	given := t.subject.lab.Request.Target.GivenDaemon()
	if given != nil {
		began, err := b.node.Agent.AttendDaemon(ctx, agent.AttendArgs{DaemonArgs: cluster.DaemonArgs(b.node, given)})
		if err != nil {
			return own, daemon, err
		}
		if !began.Ready {
			t.note("the daemon does not start under the tracer")
			given = nil
		}
		daemon.note(began.Did.Points, func(string) bool { return true }, p)
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Del} {
		if given != nil {
			if err := b.node.Agent.Attending(ctx, agent.Plan{}); err != nil {
				return own, daemon, err
			}
		}
		args, err := b.arguments(b.subjectInvocation(verb, p))
		if err != nil {
			return own, daemon, err
		}
		trace, err := b.node.Agent.Trace(ctx, agent.FaultArgs{PluginArgs: args})
		if err != nil {
			return own, daemon, err
		}
		if verb == cni.Add && trace.Call.ExitCode != 0 {
			return own, daemon, &addError{trace.Call}
		}
		if verb == cni.Add && json.Valid([]byte(trace.Call.Stdout)) {
			p.result = json.RawMessage(trace.Call.Stdout)
		}
		own.note(trace.Points, func(program string) bool { return !slices.Contains(others, program) }, p)
		if given != nil {
			did, err := b.node.Agent.DaemonDid(ctx)
			if err != nil {
				return own, daemon, err
			}
			daemon.note(did.Points, func(string) bool { return true }, p)
		}
	}
	return own, daemon, nil
}

// otherPlugins returns what is in the directories of CNI_PATH without what has the subject's name, or one that begins
// with it, as the program that a wrapper calls (macvlan.real). A plugin that is a script makes its files by programs
// from elsewhere.
func (b *bench) otherPlugins(ctx context.Context) ([]string, error) {
	var others []string
	for _, dir := range b.node.BinDirs {
		names, err := b.node.Agent.ListDir(ctx, dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !strings.HasPrefix(name, b.subject.Type) {
				others = append(others, name)
			}
		}
	}
	return others, nil
}

// meetsLink attaches a pod to a fresh node on which a link is in the place of a file, and deletes it.
func (t *trial) meetsLink(ctx context.Context, l astray, ofDaemon bool) error {
	b, p, err := t.fresh(ctx)
	if err != nil {
		return err
	}
	if err := b.furnish(ctx); err != nil {
		return err
	}
	what, daemon := l.String(), t.subject.lab.Request.Target.GivenDaemon()
	if ofDaemon {
		if err := b.node.Agent.StopDaemon(ctx, daemon.Name); err != nil {
			return err
		}
	}
	if err := b.lay(ctx, l); err != nil {
		return err
	}
	if ofDaemon {
		what += ", and its daemon started again"
		if err := cluster.StartDaemon(ctx, b.node, daemon); err != nil {
			t.note("the daemon does not start with a link in the place of %s", l.path)
		}
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Del} {
		call, err := b.quietly(ctx, verb, p)
		if err != nil {
			return err
		}
		if found, err := b.judgeAstray(ctx, what, call); err != nil || found {
			return err
		}
	}
	return nil
}

// endsAmongLinks attaches a pod, replaces all that ADD made by links, and calls DEL and GC.
func (t *trial) endsAmongLinks(ctx context.Context, own making) error {
	b, p, err := t.attached(ctx)
	if err != nil {
		return err
	}
	if err := b.furnish(ctx); err != nil {
		return err
	}
	for _, path := range own.final {
		if err := b.lay(ctx, astray{path, othersFile}); err != nil {
			return err
		}
	}
	for _, path := range own.dirs {
		if err := b.lay(ctx, astray{path, othersSubdir}); err != nil {
			return err
		}
	}
	del, err := b.quietly(ctx, cni.Del, p)
	if err != nil {
		return err
	}
	calls := []cni.Call{del}
	if cni.GC.In(t.version) {
		gc, err := b.quietly(ctx, cni.GC, nil, keeping())
		if err != nil {
			return err
		}
		calls = append(calls, gc)
	}
	_, err = b.judgeAstray(ctx, "links in the place of all that ADD made", calls...)
	return err
}
