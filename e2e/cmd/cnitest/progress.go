package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// progress prints a line for each scenario as it ends, and on a terminal below them a live line of what runs.
type progress struct {
	out  io.Writer
	live bool
	stop chan struct{}

	mu      sync.Mutex
	running []string
	ended   int
	total   int
	start   time.Time
	shown   bool // a live line stands on the screen
}

func newProgress(out io.Writer) *progress {
	file, ok := out.(*os.File)
	return &progress{out: out, live: ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb", stop: make(chan struct{})}
}

func (p *progress) begin(conflist string, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.start = total, time.Now()
	fmt.Fprintf(p.out, "%s: %d scenarios\n", conflist, total)
	if p.live {
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

// wipe takes the live line away; the caller holds the lock.
func (p *progress) wipe() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

func (p *progress) drawLive() {
	if !p.live {
		return
	}
	p.wipe()
	line := fmt.Sprintf("  %d of %d, %s  %s", p.ended, p.total, time.Since(p.start).Round(100*time.Millisecond), strings.Join(p.running, " "))
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && len(line) >= width && width > 1 {
		line = line[:width-1]
	}
	fmt.Fprint(p.out, line)
	p.shown = true
}

func (p *progress) started(s *scenario.Scenario) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, s.Name)
	p.drawLive()
}

func (p *progress) done(r report.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	for i, name := range p.running {
		if name == r.ID {
			p.running = append(p.running[:i], p.running[i+1:]...)
			p.ended++
			break
		}
	}
	name := r.ID
	if r.Plugin != report.Chain {
		name += " (" + r.Plugin + ")"
	}
	line := fmt.Sprintf("%-15s %-36s %5.1fs", r.Result, name, r.DurationSeconds)
	switch {
	case r.Reason == "":
	case r.Result == report.Fail || r.Result == report.Vacuous:
		line += "\n    " + strings.ReplaceAll(r.Reason, "\n", "\n    ")
	default:
		line += "  " + r.Reason
	}
	fmt.Fprintln(p.out, line)
	p.drawLive()
}

// end takes the live line away for good. It may be called again.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	if p.live {
		p.live = false
		close(p.stop)
	}
}
