package verb

import (
	"errors"
	"fmt"
	"log"
	"slices"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

// Collector does a plugin's part of GC.
type Collector[T any] struct {
	// Release removes all that an attachment has, and its record.
	Release func(e record.Entry[T]) error
	// Rest is called once at the end, with the records that stay. If complete is true, every valid attachment has a
	// record. Otherwise state that no record names may belong to an attachment whose record is lost.
	Rest func(kept []record.Entry[T], complete bool) error
}

// Collect does GC: it releases every recorded attachment of the network that is not valid, removes unreadable records
// of attachments that are not valid, and closes the store. Records of other networks stay. SPEC.md, GC: remove as much
// as possible, and report what could not be removed after that.
func Collect[T any](s *record.Store[T], conf *chain.Config, do Collector[T]) error {
	return errors.Join(s.Tidy(), collect(s, conf, do), s.Close())
}

func collect[T any](s *record.Store[T], conf *chain.Config, do Collector[T]) error {
	entries, corrupt, err := s.List()
	if err != nil {
		return err
	}
	var kept []record.Entry[T]
	var errs []error
	for _, e := range entries {
		if conf.IsValid(e.Attachment) {
			kept = append(kept, e)
			continue
		}
		if err := do.Release(e); err != nil {
			errs = append(errs, fmt.Errorf("attachment %s: %w", e.Attachment, err))
			kept = append(kept, e)
		}
	}
	complete := allRecorded(conf, kept)
	for _, c := range corrupt {
		if c.Newer && !conf.IsValid(c.Attachment) {
			errs = append(errs, c)
		}
		if c.Newer || conf.IsValid(c.Attachment) {
			complete = false
			continue
		}
		errs = append(errs, s.Remove(c.Attachment))
	}
	return errors.Join(append(errs, do.Rest(kept, complete))...)
}

// allRecorded reports whether each valid attachment has a record.
func allRecorded[T any](conf *chain.Config, kept []record.Entry[T]) bool {
	for _, v := range conf.ValidAttachments {
		a := record.Attachment{Network: conf.Name, ContainerID: v.ContainerID, IfName: v.IfName}
		if !slices.ContainsFunc(kept, func(e record.Entry[T]) bool { return e.Attachment == a }) {
			log.Printf("attachment %s is valid and has no record: what no record holds stays", a)
			return false
		}
	}
	return true
}
