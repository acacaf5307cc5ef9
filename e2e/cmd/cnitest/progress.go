package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/contract"
	"github.com/cnitest/cnitest/e2e/internal/soak"
	"github.com/cnitest/cnitest/e2e/report"
)

// progress prints a line for each scenario when it ends and, on a terminal, a live line below them that shows what
// runs.
type progress struct {
	// The end of ctx stops the output: results that a signal cut off say nothing about the plugins.
	ctx context.Context
	out io.Writer

	mu sync.Mutex
	liveLine
	// underTest are the plugins whose requirements get a line.
	underTest []string
	ended     int
	total     int
	start     time.Time
	// each means that every result gets a line, even if its cause was printed.
	each bool
	// told contains the causes of failures that were printed.
	told map[string]bool
}

// liveLine is the last line on a terminal, which shows what runs.
type liveLine struct {
	live    *os.File // the terminal; nil if the output is none
	stop    chan struct{}
	running []string
	shown   bool // the line is on the screen
}

func newProgress(ctx context.Context, out io.Writer) *progress {
	p := &progress{ctx: ctx, out: out, liveLine: liveLine{stop: make(chan struct{})}, start: time.Now()}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" {
		p.live = file
	}
	return p
}

func (p *progress) begin(conflist string, units []*e2e.Unit, underTest []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underTest = underTest
	p.total = len(units)
	fmt.Fprintf(p.out, "%s: %s\n", conflist, amount(units))
	if p.live != nil {
		go p.tick()
	}
}

func (p *progress) tick() {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.mu.Lock()
			p.drawLive()
			p.mu.Unlock()
		}
	}
}

// wipe removes the live line; the caller holds the lock.
func (p *progress) wipe() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

func (p *progress) drawLive() {
	if p.live == nil {
		return
	}
	what := strings.Join(p.running, " ")
	switch {
	case p.ctx.Err() != nil:
		what = "stopping"
	case what == "" && p.ended == 0:
		what = "making a first cluster"
	}
	line := fmt.Sprintf("  %d of %d, %s  %s", p.ended, p.total, time.Since(p.start).Round(100*time.Millisecond), what)
	// A line that wraps could not be removed, nor could one that wraps when the terminal adds ^C to it.
	const echoRoom = 3
	if width, _, err := term.GetSize(int(p.live.Fd())); err == nil && width > echoRoom {
		line = line[:min(len(line), width-echoRoom)]
	}
	p.wipe()
	fmt.Fprint(p.out, line)
	p.shown = true
}

func (p *progress) started(u *e2e.Unit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, u.Name())
	p.drawLive()
}

func (p *progress) done(r report.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	p.wipe()
	if i := slices.Index(p.running, r.Name()); i >= 0 {
		p.running = slices.Delete(p.running, i, i+1)
		p.ended++
	}
	if r.Result == report.NotClaimed || r.Kind == "requirement" && r.ID != contract.LeavesNothing &&
		r.ID != contract.FirstAttachment && (quiet(r.Result) || !slices.Contains(p.underTest, r.Plugin)) {
		return // the summary has them in one line
	}
	name := r.ID
	if r.Plugin != report.Chain {
		name += " (" + r.Plugin + ")"
	}
	if !p.each && (r.Result == report.Blocked || p.sameCause(r)) {
		return // the summary counts them
	}
	line := fmt.Sprintf("%-15s %-36s %5.1fs", r.Result, name, r.DurationSeconds)
	switch {
	case r.Reason == "":
	case r.Result == report.Fail || r.Result == report.Vacuous:
		line += "\n    " + inLines(r.Reason)
	default:
		line += "  " + r.Reason
	}
	fmt.Fprintln(p.out, line)
	p.drawLive()
}

// sameCause reports whether the cause of a failure was printed before. From now on it counts as printed.
func (p *progress) sameCause(r report.Result) bool {
	if r.Result != report.Fail && r.Result != report.Vacuous {
		return false
	}
	key := report.CauseKey(r.Reason)
	known := p.told[key]
	if p.told == nil {
		p.told = map[string]bool{}
	}
	p.told[key] = true
	return known
}

// tell prints a line about the progress of something long.
func (p *progress) tell(name, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.out, "%-15s %s\n", name, text)
	p.drawLive()
}

// quiet reports whether nobody has to act on requirements with an outcome.
func quiet(o report.Outcome) bool {
	return o == report.Pass || o == report.NotApplicable || o == report.KnownUpstream
}

// amount counts the parts of a run, e.g. "46 scenarios, 120 requirements of 3 plugins".
func amount(units []*e2e.Unit) string {
	if len(units) == 1 && units[0].ID == soak.ID {
		return "a soak"
	}
	scenarios, requirements := 0, 0
	plugins := map[string]bool{}
	for _, u := range units {
		if u.Plugin == "" {
			scenarios++
			continue
		}
		requirements++
		plugins[u.Plugin] = true
	}
	var parts []string
	if scenarios > 0 {
		parts = append(parts, plural(scenarios, "scenario"))
	}
	if requirements > 0 {
		parts = append(parts, plural(requirements, "requirement")+" of "+plural(len(plugins), "plugin"))
	}
	return strings.Join(parts, ", ")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// inLines puts each part of a long reason on a separate line.
func inLines(reason string) string {
	return strings.NewReplacer("\n", "\n    ", "; ", ";\n    ").Replace(reason)
}

// end removes the live line for good. It may be called again.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	if p.live != nil {
		p.live = nil
		close(p.stop)
	}
}
