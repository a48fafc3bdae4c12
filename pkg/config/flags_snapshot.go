package config

import (
	"net/url"
	"regexp"

	"github.com/robfig/cron/v3"

	"github.com/skiff-k8s/skiff/pkg/layout"
)

// CategorySnapshots is the category of the settings of snapshots, which the
// commands of skiff snapshot have, too.
const CategorySnapshots = "Snapshots"

func snapshotFlags() []Flag {
	return in(CategorySnapshots, append([]Flag{
		{Name: "disable-snapshots", Usage: "make no snapshots on a schedule",
			field: func(s *Server) any { return &s.Snapshots.Disable }},
		{Name: "snapshot-schedule-cron", Metavar: "CRON", Default: "0 */12 * * *", Usage: "when snapshots are made, in the machine's time zone: minute, hour, day of month, month, day of week",
			check: cronExpression,
			field: func(s *Server) any { return &s.Snapshots.Schedule }},
		{Name: "snapshot-retention", Metavar: "NUMBER", Default: "5", Usage: "how many of them are kept, of each server; 0 keeps all",
			check: between(0, 1_000_000),
			field: func(s *Server) any { return &s.Snapshots.Retention }},
		{Name: "snapshot-name", Metavar: "PREFIX", Default: "snapshot", Usage: "what their names begin with",
			check: snapshotName,
			field: func(s *Server) any { return &s.Snapshots.Name }},
		{Name: "snapshot-dir", Metavar: "DIR", Path: true, DefaultNote: layout.Default().Snapshots(), Usage: "directory in which snapshots are kept",
			check: notRoot,
			field: func(s *Server) any { return &s.Snapshots.Directory }},
	}, s3Flags()...))
}

func s3Flags() []Flag {
	return []Flag{
		{Name: "s3", Usage: "keep snapshots in an S3 bucket, too",
			field: func(s *Server) any { return &s.Snapshots.S3.Enable }},
		{Name: "s3-endpoint", Metavar: "HOST[:PORT]", Default: "s3.amazonaws.com", Usage: "server of the bucket",
			check: s3Endpoint,
			field: func(s *Server) any { return &s.Snapshots.S3.Endpoint }},
		{Name: "s3-endpoint-ca", Metavar: "FILE", Path: true, Usage: "CA of its certificate, if the machine does not trust it anyway",
			check: existingFile,
			field: func(s *Server) any { return &s.Snapshots.S3.EndpointCA }},
		{Name: "s3-skip-ssl-verify", Usage: "do not look at its certificate",
			field: func(s *Server) any { return &s.Snapshots.S3.SkipVerify }},
		{Name: "s3-insecure", Usage: "connect without TLS",
			field: func(s *Server) any { return &s.Snapshots.S3.Insecure }},
		{Name: "s3-bucket", Metavar: "NAME", Usage: "bucket, which must exist",
			field: func(s *Server) any { return &s.Snapshots.S3.Bucket }},
		{Name: "s3-bucket-lookup-type", Default: "auto", Values: []string{"auto", "dns", "path"}, Usage: "whether the bucket's name is in the host name or in the path",
			field: func(s *Server) any { return &s.Snapshots.S3.BucketLookup }},
		{Name: "s3-region", Metavar: "NAME", Default: "us-east-1", Usage: "region of the bucket",
			field: func(s *Server) any { return &s.Snapshots.S3.Region }},
		{Name: "s3-folder", Metavar: "PATH", Usage: "folder in the bucket",
			field: func(s *Server) any { return &s.Snapshots.S3.Folder }},
		{Name: "s3-access-key", Metavar: "KEY", Secret: true, Usage: "access key",
			field: func(s *Server) any { return &s.Snapshots.S3.AccessKey }},
		{Name: "s3-secret-key", Metavar: "KEY", Secret: true, Usage: "secret key",
			field: func(s *Server) any { return &s.Snapshots.S3.SecretKey }},
		{Name: "s3-session-token", Metavar: "TOKEN", Secret: true, Usage: "session token",
			field: func(s *Server) any { return &s.Snapshots.S3.SessionToken }},
		{Name: "s3-config-secret", Metavar: "NAME", Usage: "Secret in kube-system that has these settings; used by a running server where none of the others is set",
			field: func(s *Server) any { return &s.Snapshots.S3.ConfigSecret }},
		{Name: "s3-retention", Metavar: "NUMBER", DefaultNote: "snapshot-retention", Usage: "how many scheduled snapshots are kept there, of each server; 0 keeps all",
			check: between(0, 1_000_000),
			field: func(s *Server) any { return &s.Snapshots.S3.Retention }},
		{Name: "s3-timeout", Metavar: "DURATION", Default: "5m", Usage: "what one upload, download or list may take",
			check: positiveDuration,
			field: func(s *Server) any { return &s.Snapshots.S3.Timeout }},
	}
}

func cronExpression(text string) error {
	if _, err := cron.ParseStandard(text); err != nil {
		return invalidf("write five fields, minute, hour, day of month, month and day of week, like \"0 */12 * * *\"; or leave snapshots out with disable-snapshots", "%q is not a cron expression (%v)", text, err)
	}
	return nil
}

var snapshotNames = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$`)

func snapshotName(text string) error {
	if !snapshotNames.MatchString(text) {
		return invalidf("write letters, digits, '.', '-' and '_', at most 100, with a letter or digit at both ends", "%q cannot begin the name of a file", text)
	}
	return nil
}

// CheckSnapshotName says what is wrong with what a snapshot's name is to begin
// with.
func CheckSnapshotName(text string) error { return snapshotName(text) }

func s3Endpoint(text string) error {
	u, err := url.Parse("https://" + text)
	if err != nil || u.Host != text || u.Hostname() == "" {
		return invalidf("write it like s3.example.com or 192.0.2.10:9000; s3-insecure is for servers without TLS", "%q is not a host with or without a port", text)
	}
	return nil
}

// deriveSnapshots fills in what follows from other settings.
func (l *loader) deriveSnapshots() {
	s := &l.server.Snapshots
	if !l.isSet("snapshot-dir") {
		s.Directory = l.server.Layout.Snapshots()
	}
	if !l.isSet("s3-retention") {
		s.S3.Retention = s.Retention
	}
}

func (l *loader) validateSnapshots() {
	s := l.server.Snapshots.S3
	if !s.Enable {
		return
	}
	switch {
	case s.Bucket == "" && s.ConfigSecret == "":
		l.conflict("s3", "there is no bucket", "set s3-bucket, or s3-config-secret")
	case (s.AccessKey == "") != (s.SecretKey == ""):
		l.conflict("s3-access-key", "an access key and a secret key belong together", "set both of s3-access-key and s3-secret-key, or none")
	}
}

// validateReset keeps a reset from happening again at each start.
func (l *loader) validateReset() {
	for _, name := range []string{"cluster-reset", "cluster-reset-restore-path"} {
		values := l.values[name]
		if len(values) > 0 && values[0].origin.Source != FromFlag && values[0].text != "false" {
			l.conflict(name, "it would happen again at each start", "leave it out here and say it once, on the command line")
		}
	}
	if r := l.server.Reset; r.Snapshot != "" && !r.Enable {
		l.conflict("cluster-reset-restore-path", "there is no cluster-reset", "add --cluster-reset, or use skiff snapshot restore")
	}
}
