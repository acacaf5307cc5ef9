package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/backend/netns"
	"github.com/cnitest/cnitest/e2e/bench"
	"github.com/cnitest/cnitest/e2e/cluster"
	"github.com/cnitest/cnitest/e2e/conflist"
	"github.com/cnitest/cnitest/e2e/internal/share"
	"github.com/cnitest/cnitest/e2e/internal/testbin"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
)

func TestMain(m *testing.M) { netns.Main(m) }

// The plugin under test is a wrapper around ptp under another name, so that upstream's own ptp can stand beside it.
const brokenConflist = `{"cniVersion": "1.1.0", "name": "broken", "plugins": [{"type": "mine", "ipam": {
"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/16"}]]}}]}`

// binDir returns a directory with the wrapper, which has a defect, and what else the plugins need.
func binDir(t *testing.T, defect string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for namespaces")
	}
	built, dir := t.TempDir(), t.TempDir()
	const upstream = "github.com/containernetworking/plugins/plugins/"
	if err := testbin.Build(built, "../broken/wrapper", upstream+"main/ptp", upstream+"ipam/host-local",
		upstream+"ipam/static"); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"mine": "wrapper", "mine.real": "ptp", "host-local": "host-local", "static": "static",
	} {
		if err := os.Link(filepath.Join(built, from), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "mine.defect"), []byte(defect), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run measures for some seconds.
func run(t *testing.T, options bench.Options) *benchmark.Benchmark {
	t.Helper()
	file, err := conflist.Parse("broken.conflist", []byte(brokenConflist))
	if err != nil {
		t.Fatal(err)
	}
	options.Request.Conflist, options.Backend = file, &netns.Backend{}
	options.Tell = func(text string) { t.Log(text) }
	doc, err := bench.Run(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestRun_finds wants plugins that are slow in a certain way to show as such, and nothing else of them to.
func TestRun_finds(t *testing.T) {
	for _, tt := range share.Of(t, share.Default(), []struct {
		defect string
		want   string // the findings, one a line
		sizes  []int
	}{
		{"none", `^$`, []int{2, 12}},
		{
			"slows-with-each-pod",
			`^ADD takes ([3-6]\d)(\.\d)? ms ± \S+ \S+ longer for each attachment on the node: with 12 attachments ` +
				`\d\.\d times as long as with 2\.$`,
			[]int{2, 12},
		},
		{
			"holds-a-lock",
			`^ADD does not run beside itself: 8 at once take \d\.\d\d times as long as 8 one after the other, and the ` +
				`processors were idle, so each holds the others up for about [3-6]\d\d ms, as with a lock\.$`,
			[]int{2},
		},
	}) {
		t.Run(tt.defect, func(t *testing.T) {
			bin := binDir(t, tt.defect)
			// Other packages' tests come and go beside this one, and disturb what is measured meanwhile.
			var wrong []string
			for range 3 {
				doc := run(t, bench.Options{
					Request: cluster.Request{BinDir: bin}, Duration: 20 * time.Second,
					Callers: []int{8}, Attachments: tt.sizes,
				})
				if wrong = misjudged(doc, tt.want, tt.defect == "holds-a-lock"); len(wrong) == 0 {
					return
				}
				var text strings.Builder
				_ = doc.Print(&text)
				t.Log(text.String())
			}
			t.Errorf("three times, at last: %s", strings.Join(wrong, "; "))
		})
	}
}

// misjudged says what is wrong with the findings, and with the share of locks, of which holds says what it should be.
func misjudged(doc *benchmark.Benchmark, findings string, holds bool) (wrong []string) {
	if got := strings.Join(doc.Findings, "\n"); !regexp.MustCompile(findings).MatchString(got) {
		wrong = append(wrong, fmt.Sprintf("got findings %q, want %s", got, findings))
	}
	// Under the tracer the seven others hold the lock for most of the time.
	if got := lockShare(doc); got > 0.5 != holds {
		wrong = append(wrong, fmt.Sprintf("got %.0f %% of the time of an ADD beside others in a lock, want most of it: %t",
			100*got, holds))
	}
	return wrong
}

// lockShare returns which part of an ADD of the chain under test beside others waits for a lock.
func lockShare(doc *benchmark.Benchmark) float64 {
	for _, c := range doc.Costs {
		if c.Chain != doc.Chain().Name || c.Callers == 1 {
			continue
		}
		all, lock := 0.0, 0.0
		for _, s := range c.Shares {
			all += s.Seconds
			if s.What == "lock" {
				lock = s.Seconds
			}
		}
		return lock / all
	}
	return 0
}

// A plugin of upstream's that takes no more pods is left out, and not held against the chain under test.
func TestRun_leaves_out(t *testing.T) {
	bin := binDir(t, "none")
	// It takes 16 pods at the same time.
	const full = `#!/bin/sh
here=$(dirname "$0")
case $CNI_COMMAND in
DEL) echo >>/run/dels ;;
ADD)
	echo >>/run/adds
	if [ $(($(wc -l </run/adds) - $(cat /run/dels 2>/dev/null | wc -l))) -gt 16 ]; then
		echo '{"cniVersion": "1.1.0", "code": 999, "msg": "exchange full"}'
		exit 1
	fi ;;
esac
exec "$here/mine.real"
`
	if err := os.WriteFile(filepath.Join(bin, "bridge"), []byte(full), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		sizes []int
		want  string
	}{
		{"at once", []int{20}, "upstream's bridge, from 0 attachments on"},
		{"on the way", []int{2, 20}, "upstream's bridge, from 2 attachments on"},
		{"when full", []int{2, 16}, "upstream's bridge, from 16 attachments on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := run(t, bench.Options{
				Request: cluster.Request{BinDir: bin}, Duration: 10 * time.Minute, Rounds: 2, Callers: []int{2},
				Attachments: tt.sizes,
			})
			if !slices.ContainsFunc(doc.Missing, func(m benchmark.Missing) bool {
				return m.What == tt.want && strings.HasSuffix(m.Why, "exchange full (code 999)")
			}) {
				t.Errorf("got as missing %v, want %s", doc.Missing, tt.want)
			}
			first, grows := tt.sizes[0], len(tt.sizes) > 1
			if grown := len(doc.Growth) > 0; doc.Call("noop", "ADD", first, 1) == nil || grown != grows {
				t.Errorf("got calls %v and growth %v, want those with %v attachments", doc.Calls, doc.Growth, tt.sizes)
			}
			// What was measured until then is kept.
			if got := doc.Call("upstream's bridge", "ADD", first, 1) != nil; got != grows {
				t.Errorf("got calls of the bridge: %v, want %v", got, grows)
			}
		})
	}
}
