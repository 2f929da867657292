package main

import (
	"context"
	"errors"

	"github.com/spf13/pflag"

	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/bags/metrics/meteor"
	"github.com/stllm/stllm/bags/metrics/sensim"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/fetch"
)

// metricFlags say where the resources of text metrics are.
type metricFlags struct {
	meteor, minilm string
	noFetch, ngram bool
}

func (f *metricFlags) add(s *pflag.FlagSet) {
	s.StringVar(&f.meteor, "meteor", "", "wheel or folder of pycocoevalcap 1.2 with METEOR's tables (default: fetched once into the cache)")
	s.StringVar(&f.minilm, "minilm", "", "folder of all-MiniLM-L6-v2 (default: fetched once into the cache)")
	s.BoolVar(&f.noFetch, "no-fetch", false, "fetch nothing; metrics whose tables are not there are left out, which scores.json and the report say")
	s.BoolVar(&f.ngram, "ngram-only", false, "leave METEOR and SenSim out")
}

// scorer opens METEOR's tables and the sentence encoder, and fetches them where they are not there. What cannot be had is left
// out of the scores, with the reason.
func (a *app) scorer(ctx context.Context, f *metricFlags) (metrics.Scorer, func()) {
	s := metrics.Scorer{Why: map[string]error{}}
	end := func() {}
	if f.ngram {
		out := errors.New("left out by --ngram-only")
		s.Why["METEOR"], s.Why["SenSim"] = out, out
		return s, end
	}
	find := func() (m, n error) {
		if f.meteor == "" {
			f.meteor, m = meteor.Find()
		}
		if f.minilm == "" {
			f.minilm, n = sensim.Find()
			if n != nil {
				f.minilm = ""
			}
		}
		return m, n
	}
	noMeteor, noMinilm := find()
	if (noMeteor != nil || noMinilm != nil) && !f.noFetch {
		a.log.Info().Msg("METEOR's tables and the sentence encoder are fetched once through pip (about 190 MB)")
		if err := fetch.Metrics(ctx, a.err); err != nil {
			a.log.Warn().Err(err).Msg("not fetched; --meteor and --minilm take folders")
		}
		noMeteor, noMinilm = find()
	}
	if noMeteor == nil {
		s.METEOR, noMeteor = meteor.Open(f.meteor)
	}
	if noMeteor != nil {
		s.METEOR, s.Why["METEOR"] = nil, noMeteor
		a.log.Warn().Err(noMeteor).Msg("METEOR is left out")
	}
	if noMinilm == nil {
		var env *ort.Environment
		var enc *sensim.Encoder
		if env, noMinilm = ort.OpenDefault(); noMinilm == nil {
			if enc, noMinilm = sensim.Open(env, f.minilm); noMinilm == nil {
				s.SenSim = enc
				end = func() { _ = enc.Close() }
			}
		}
	}
	if noMinilm != nil {
		s.Why["SenSim"] = noMinilm
		a.log.Warn().Err(noMinilm).Msg("SenSim is left out")
	}
	return s, end
}
