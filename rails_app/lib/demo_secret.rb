# frozen_string_literal: true

require "securerandom"

# The key that signs the session cookie, which Sidekiq's forms need: SECRET_KEY_BASE where
# it is set, else one made on first use and kept outside version control.
module DemoSecret
  def self.read(root)
    ENV["SECRET_KEY_BASE"] || kept_in(root.join("tmp/secret_key_base.txt"))
  end

  def self.kept_in(path)
    path.dirname.mkpath
    # Several processes start at once: the exclusive lock makes one of them write, the others read.
    File.open(path, File::RDWR | File::CREAT, 0o600) do |file|
      file.flock(File::LOCK_EX)
      secret = file.read
      next secret unless secret.empty?

      SecureRandom.hex(64).tap { |fresh| file.write(fresh) }
    end
  end
  private_class_method :kept_in
end
