package metadata

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The headers of IMDSv2.
const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// maxTTL is the longest life of a token: six hours.
const maxTTL = 6 * 60 * 60

// Options say how a service answers.
type Options struct {
	// Tokens requires a token with each request (IMDSv2). If false, the service does not issue tokens (IMDSv1).
	Tokens bool
}

// Service serves an instance, as an http.Handler. It is safe for concurrent use.
type Service struct {
	options Options

	mu       sync.Mutex
	instance Instance
	tree     map[string]string
	tokens   map[string]time.Time // until when they are valid
}

// NewService returns a service without data.
func NewService(options Options) *Service {
	return &Service{options: options, tokens: map[string]time.Time{}}
}

// Set replaces the data.
func (s *Service) Set(i Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance, s.tree = i, i.tree()
}

// ServeHTTP answers a request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	version, path, _ := strings.Cut(path, "/")
	w.Header().Set("Content-Type", "text/plain")
	switch {
	case version == "ec2":
		s.serveAPI(w, r)
	case version != "latest":
		http.Error(w, "", http.StatusNotFound)
	case path == "api/token" && s.options.Tokens:
		s.giveToken(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "", http.StatusMethodNotAllowed)
	case s.options.Tokens && !s.knows(r.Header.Get(tokenHeader)):
		http.Error(w, "", http.StatusUnauthorized)
	default:
		text, ok := s.read(path)
		if !ok {
			http.Error(w, "", http.StatusNotFound)
			return
		}
		_, _ = fmt.Fprint(w, text) // fails only if the client is gone
	}
}

// giveToken answers a PUT with a token. Requests through a proxy get none (EC2 User Guide, "How Instance Metadata
// Service Version 2 works").
func (s *Service) giveToken(w http.ResponseWriter, r *http.Request) {
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	switch {
	case r.Method != http.MethodPut:
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	case r.Header.Get("X-Forwarded-For") != "":
		http.Error(w, "", http.StatusForbidden)
		return
	case err != nil || ttl < 1 || ttl > maxTTL:
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	token := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = time.Now().Add(time.Duration(ttl) * time.Second)
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	_, _ = fmt.Fprint(w, token)
}

func (s *Service) knows(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.tokens[token])
}

// read returns a value, or a list of the names directly below a path. Names that have further names below them end with
// a slash.
func (s *Service) read(path string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text, ok := s.tree[path]; ok {
		return text, true
	}
	var names []string
	for leaf := range s.tree {
		below, ok := strings.CutPrefix(leaf, path+"/")
		if !ok {
			continue
		}
		name, _, more := strings.Cut(below, "/")
		if more {
			name += "/"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n"), names != nil
}
