package contract

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/snapshot"
)

func TestIsLog(t *testing.T) {
	for name, want := range map[string]bool{
		"/var/log/plugin/plugin.log": true, "/host/var/log/aws/ipamd": true, "/run/plugin/debug.log": true,
		"/var/lib/cni/catalog": false, "/run/log.db": false,
	} {
		if got := isLog(snapshot.Item{Kind: snapshot.File, Name: name}); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if isLog(snapshot.Item{Kind: snapshot.Link, Name: "a.log"}) {
		t.Error("a link is a log")
	}
}
