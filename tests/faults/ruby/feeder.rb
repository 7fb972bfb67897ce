# frozen_string_literal: true

# Loaded into a helper: pushes jobs with Sidekiq's own client, beside whatever else happens, and writes down which pushes Redis has
# confirmed. A push whose answer was lost may have arrived or not, so it is written down as unsure.

class Feeder
  def initialize(path)
    @path = path
    @stop = false
  end

  # mix: [[class, args], ...], pushed in turn, so many a second.
  def start(mix, rate)
    @thread = Thread.new do
      mix.cycle.with_index do |(job_class, args), number|
        break if @stop
        push(job_class, args, number)
        sleep(1.0 / rate)
      end
    end
    nil
  end

  def stop
    @stop = true
    @thread.join(20) ? nil : raise("the feeder does not end")
  end

  private

  def push(job_class, args, number)
    jid = SecureRandom.hex(12)
    note(jid, true) if Sidekiq::Client.push("class" => job_class, "args" => args, "jid" => jid, "queue" => queue(number))
  rescue StandardError
    note(jid, false)
    sleep 0.05
  end

  def queue(number) = %w[default high low][number % 3]

  def note(jid, sure)
    File.open(@path, File::WRONLY | File::APPEND | File::CREAT) { |file| file.syswrite("#{jid} #{sure ? "sure" : "unsure"}\n") }
  end
end

# A client that pushes again by itself after a cut connection would push some jobs twice: that is the client's doing, not the worker's.
Sidekiq.configure_client { |config| config.redis = {url: ENV.fetch("REDIS_URL"), reconnect_attempts: 0, timeout: 2} }
