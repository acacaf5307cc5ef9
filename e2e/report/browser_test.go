package report_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/report/benchmark"
	"github.com/cnitest/cnitest/e2e/report/matrix"
)

// findBrowser returns the path of a Chromium: the one in the variable CNITEST_BROWSER, or one on PATH.
func findBrowser(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CNITEST_BROWSER"); path != "" {
		return path
	}
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("no browser: none of %s is on PATH, and CNITEST_BROWSER names none", strings.Join(names, ", "))
	return ""
}

// newBrowser starts a browser that ends with the test.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	program := findBrowser(t)
	dir, err := os.MkdirTemp("", "browser") // the path of its socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program),
		chromedp.UserDataDir(t.TempDir()), chromedp.Env("TMPDIR="+dir))
	if os.Geteuid() == 0 {
		// Its sandbox refuses root. The page comes from this package.
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		// It waits until the browser has ended, which writes into its directory until then.
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// watcher records a page's requests and complaints.
type watcher struct {
	mu       sync.Mutex
	requests []string
	messages []string
}

func watch(ctx context.Context) (*watcher, error) {
	w := &watcher{}
	return w, chromedp.Listen(ctx, func(event any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, "data:") {
				w.requests = append(w.requests, e.Request.URL)
			}
		case *runtime.EventConsoleAPICalled:
			w.messages = append(w.messages, "console "+string(e.Type))
		case *runtime.EventExceptionThrown:
			w.messages = append(w.messages, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			w.messages = append(w.messages, fmt.Sprintf("%s: %s", e.Entry.Level, e.Entry.Text))
		}
	})
}

// serve serves a page at an address of this machine, as a web server would.
func serve(t *testing.T, page string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/" {
			http.NotFound(w, req)
			return
		}
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/"
}

// view is a way to view a page.
type view struct {
	width  int64
	scheme string
}

// sight contains measurements of a page.
type sight struct {
	// Wide are the elements that extend beyond the right edge, Faint the texts with too little contrast. Text is the
	// whole text.
	Wide, Faint []string
	Text        string
}

// Open all folded parts, then measure: elements that extend beyond the page and are in none that scrolls, and texts
// with a contrast to their background below 4.5, the minimum of WCAG 2.2 (1.4.3).
const lookScript = `(() => {
	document.querySelectorAll('details').forEach(d => d.open = true);
	const name = e => e.tagName.toLowerCase() + (e.getAttribute('class') ? '.' + e.getAttribute('class') : '') + ' ' +
		e.textContent.trim().slice(0, 30);
	const scrolls = e => { for (e = e.parentElement; e; e = e.parentElement)
		if (getComputedStyle(e).overflowX !== 'visible') return true;
		return false; };
	const width = document.documentElement.clientWidth;
	const wide = [...document.body.querySelectorAll('*')]
		.filter(e => e.getBoundingClientRect().right > width + 1 && !scrolls(e)).map(name);
	if (document.documentElement.scrollWidth > width) wide.push('the page: ' + document.documentElement.scrollWidth);
	const rgb = c => { const m = c.match(/[\d.]+/g).map(Number);
		return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3); };
	const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
		return .2126 * r + .7152 * g + .0722 * b; };
	const behind = e => {
		const box = e.closest('g') && e.closest('g').querySelector('rect');
		if (box) return rgb(getComputedStyle(box).fill);
		for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c) return c; }
		return [255, 255, 255];
	};
	const faint = new Set();
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walker.nextNode();) {
		if (!n.data.trim()) continue;
		const e = n.parentElement, style = getComputedStyle(e);
		const [a, b] = [light(rgb(e.namespaceURI.endsWith('svg') ? style.fill : style.color)), light(behind(e))];
		const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (contrast < 4.5) faint.add(name(e) + ': ' + contrast.toFixed(1));
	}
	return {Wide: wide.slice(0, 5), Faint: [...faint].slice(0, 5), Text: document.body.textContent};
})()`

// look opens a page that has no scripts and measures it.
func look(t *testing.T, browser context.Context, url string, v view) (sight, *watcher) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	defer cancel()
	w, err := watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		call(ctx, network.Enable, network.EnableParams{}),
		call(ctx, log.Enable, cdp.Empty{}),
		call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}),
		call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}},
		}),
		chromedp.Do(ctx, chromedp.EmulateViewport(v.width, 900), chromedp.Navigate(url)),
	); err != nil {
		t.Fatal(err)
	}
	keepScreenshot(ctx, t, v)
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[sight](lookScript))
	if err != nil {
		t.Fatal(err)
	}
	return seen, w
}

func call[P, R any](ctx context.Context, command cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(ctx, command, params)
	return err
}

// keepScreenshot stores a picture for people if CNITEST_SCREENSHOTS names a directory.
func keepScreenshot(ctx context.Context, t *testing.T, v view) {
	t.Helper()
	dir := os.Getenv("CNITEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	const lossless = 100
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(lossless))
	if err == nil {
		name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
		err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, v.scheme, v.width)), picture, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

func views() []view {
	return []view{{1400, "light"}, {1400, "dark"}, {390, "light"}, {390, "dark"}}
}

// TestBrowser opens the page in a real browser: with desktop and phone sizes, in light and dark colours, without
// scripts.
func TestBrowser(t *testing.T) {
	browser := newBrowser(t)
	documents := []string{"testdata/macvlan.json", "testdata/full.json", "testdata/empty.json"}
	if more := os.Getenv("CNITEST_REPORT"); more != "" {
		documents = append(documents, more)
	}
	for _, file := range documents {
		r, err := report.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lookAtPage(t, browser, filepath.Base(file), render(t, r), texts(r))
	}
}

// TestBrowser_benchmark looks at the page of cnitest bench, which has the style of this package's.
func TestBrowser_benchmark(t *testing.T) {
	browser := newBrowser(t)
	files := []string{"benchmark/testdata/bench.json"}
	if more := os.Getenv("CNITEST_BENCHMARK"); more != "" {
		files = append(files, more)
	}
	for _, file := range files {
		b, err := benchmark.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var page strings.Builder
		if err := b.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		wanted := slices.Concat(b.Findings, b.Notes)
		for _, table := range b.Tables() {
			wanted = append(wanted, table.Title, table.Note)
			for _, row := range table.Rows {
				wanted = append(wanted, row...)
			}
		}
		lookAtPage(t, browser, filepath.Base(file), page.String(), wanted)
	}
}

// TestBrowser_matrix looks at the page of cnitest report matrix, with as many versions as containernetworking/plugins
// has. CNITEST_MATRIX names a directory with reports of one's own.
func TestBrowser_matrix(t *testing.T) {
	browser := newBrowser(t)
	var sources []matrix.Source
	for _, name := range []string{"ptp", "macvlan-veth-to-host"} {
		for minor := range 10 {
			r, err := report.ReadFile("../reports/" + name + "/report.json")
			if err != nil {
				t.Fatal(err)
			}
			r.Implementation.Version = fmt.Sprintf("v1.%d.0", minor)
			for i := range r.Implementation.Plugins {
				r.Implementation.Plugins[i].Version = r.Implementation.Version
			}
			// Something goes with each version, and comes back with the next one. Large pages take long.
			r.Results = r.Results[40:100]
			for i := minor; i < len(r.Results); i += 10 {
				r.Results[i].Result, r.Results[i].Reason = report.Fail,
					"a reason with\na long_word_"+strings.Repeat("x", 80)
			}
			sources = append(sources, matrix.Source{Dir: fmt.Sprintf("%s-v1.%d.0", name, minor), Report: r})
		}
	}
	m, err := matrix.New(sources)
	if err != nil {
		t.Fatal(err)
	}
	m.Notes = []string{"vlan could not be run"}
	lookAtPage(t, browser, "matrix", matrixPage(t, m), matrixTexts(m))
	more := os.Getenv("CNITEST_MATRIX")
	if more == "" {
		return
	}
	files, err := filepath.Glob(filepath.Join(more, "*", report.JSONName))
	if err != nil || len(files) == 0 {
		t.Fatalf("no reports in %s: %v", more, err)
	}
	sources = nil
	for _, file := range files {
		r, err := report.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, matrix.Source{Dir: filepath.Base(filepath.Dir(file)), Report: r})
	}
	if m, err = matrix.New(sources); err != nil {
		t.Fatal(err)
	}
	lookAtPage(t, browser, "own", matrixPage(t, m), matrixTexts(m))
}

func matrixPage(t *testing.T, m *matrix.Matrix) string {
	t.Helper()
	var page strings.Builder
	if err := m.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// matrixTexts returns all texts that the page must show.
func matrixTexts(m *matrix.Matrix) []string {
	all := slices.Clone(m.Notes)
	for _, p := range m.Plugins {
		all = append(all, p.Name, p.Chain)
		for _, v := range p.Versions {
			all = append(all, v.Version)
		}
		for _, r := range p.Rows {
			all = append(all, r.ID)
		}
		for _, c := range p.Changes {
			all = append(all, c.ID, c.Title)
		}
	}
	return all
}

// lookAtPage looks at a page in each view, and wants all texts on it.
func lookAtPage(t *testing.T, browser context.Context, name, page string, wanted []string) {
	t.Helper()
	url := serve(t, page)
	for _, v := range views() {
		t.Run(fmt.Sprintf("%s %d %s", name, v.width, v.scheme), func(t *testing.T) {
			seen, w := look(t, browser, url, v)
			if diff := cmp.Diff([]string{}, seen.Wide); diff != "" {
				t.Errorf("wider than the page (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{}, seen.Faint); diff != "" {
				t.Errorf("texts of too little contrast (-want +got):\n%s", diff)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if diff := cmp.Diff([]string{url}, w.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if len(w.messages) > 0 {
				t.Errorf("got messages %q, want none", w.messages)
			}
			missing := slices.DeleteFunc(slices.Clone(wanted), func(text string) bool {
				return strings.Contains(squeeze(seen.Text), squeeze(text))
			})
			if len(missing) > 0 {
				t.Errorf("got a page without %q", missing)
			}
		})
	}
}

// TestBrowser_sees checks that the measurements find pages that are wrong in each way.
func TestBrowser_sees(t *testing.T) {
	browser := newBrowser(t)
	for _, tt := range []struct {
		name, body string
		want       func(sight, *watcher) bool
	}{
		{"a wide element", `<p style="width: 2000px">wide</p>`, func(s sight, _ *watcher) bool { return len(s.Wide) > 0 }},
		{"faint text", `<p style="color: #777; background: #888">faint</p>`, func(s sight, _ *watcher) bool { return len(s.Faint) == 1 }},
		{
			"faint text in a picture", `<svg><g><rect fill="#888"/><text fill="#777">faint</text></g></svg>`,
			func(s sight, _ *watcher) bool {
				return len(s.Faint) == 1
			},
		},
		{"a request", `<img src="/picture.png">`, func(_ sight, w *watcher) bool { return len(w.requests) == 2 }},
		{"an error", `<img src="/picture.png">`, func(_ sight, w *watcher) bool { return len(w.messages) > 0 }},
		{
			"a text that a script writes", `<script>document.body.append("written")</script>`,
			func(s sight, _ *watcher) bool {
				return !strings.Contains(s.Text, "\nwritten") && !strings.HasSuffix(s.Text, ">written")
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page := `<!DOCTYPE html><html lang="en"><head><link rel="icon" href="data:,"></head><body>` + tt.body +
				`</body></html>`
			seen, w := look(t, browser, serve(t, page), view{390, "light"})
			w.mu.Lock()
			defer w.mu.Unlock()
			if !tt.want(seen, w) {
				t.Errorf("got %+v, requests %q, messages %q: the mistake was not seen", seen, w.requests, w.messages)
			}
		})
	}
}

// texts returns all texts that a page must show of a report.
func texts(r *report.Report) []string {
	all := []string{string(r.Verdict), r.Implementation.Conflist, r.Kernel, r.Profile}
	for _, res := range r.Results {
		all = append(all, res.ID, res.Title)
		if res.Result != report.Pass {
			all = append(all, strings.Split(res.Reason, "; ")...)
		}
		for _, e := range res.Evidence {
			all = append(all, e.Title, strings.ReplaceAll(e.Text, " -> ", " → "), e.File)
		}
	}
	for _, m := range r.FailureModes {
		all = append(all, m.Symptom)
	}
	for _, p := range r.Implementation.Plugins {
		all = append(all, p.Type, p.Version, p.SHA256)
	}
	return append(all, r.Notes...)
}

// squeeze removes white space, since a page lays it out in its own way.
func squeeze(text string) string { return strings.Join(strings.Fields(text), "") }
